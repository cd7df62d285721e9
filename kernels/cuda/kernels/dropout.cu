#include "kernels/cuda/kernels/dropout.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

void CudaBackend::dropout(const Dropout& a) { run_dropout(Launch(context_), a); }

}  // namespace frost::cuda
