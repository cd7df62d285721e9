#include "kernels/cuda/descriptor.h"

namespace frost::cuda {

void fail_call(cudnnStatus_t status, const char* call, const char* file, int line) {
  char why[1024] = "";
  cudnnGetLastErrorString(why, sizeof why);
  fail(call, ": ", cudnnGetErrorString(status), why[0] ? " (" : "", why, why[0] ? ")" : "", " at ", place(file, line));
}

}  // namespace frost::cuda
