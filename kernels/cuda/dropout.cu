#include "kernels/cuda/dropout.h"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernel_launch.h"

namespace frost::cuda {

void CudaBackend::dropout(const Dropout& a) { run_dropout(Launch(context_), a); }

}  // namespace frost::cuda
