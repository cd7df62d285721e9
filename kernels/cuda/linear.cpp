#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

void CudaBackend::linear_forward(const LinearForward&) { fail("linear_forward: not written yet for CUDA"); }
void CudaBackend::linear_backward(const LinearBackward&) { fail("linear_backward: not written yet for CUDA"); }

}  // namespace frost::cuda
