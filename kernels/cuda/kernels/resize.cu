#include "kernels/cuda/kernels/resize.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

void CudaBackend::resize_forward(const ResizeForward& a) { cuda::resize_forward(Launch(context_), a); }
void CudaBackend::resize_backward(const ResizeBackward& a) { cuda::resize_backward(Launch(context_), a); }

}  // namespace frost::cuda
