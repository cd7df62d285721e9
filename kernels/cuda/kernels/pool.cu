#include "kernels/cuda/kernels/pool.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

void CudaBackend::max_pool_forward(const MaxPoolForward& a) { cuda::max_pool_forward(Launch(context_), a); }
void CudaBackend::max_pool_backward(const MaxPoolBackward& a) { cuda::max_pool_backward(Launch(context_), a); }
void CudaBackend::avg_pool_forward(const AvgPoolForward& a) { cuda::avg_pool_forward(Launch(context_), a); }
void CudaBackend::avg_pool_backward(const AvgPoolBackward& a) { cuda::avg_pool_backward(Launch(context_), a); }
void CudaBackend::adaptive_avg_pool_forward(const AdaptiveAvgPoolForward& a) {
  cuda::adaptive_avg_pool_forward(Launch(context_), a);
}
void CudaBackend::adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward& a) {
  cuda::adaptive_avg_pool_backward(Launch(context_), a);
}

}  // namespace frost::cuda
