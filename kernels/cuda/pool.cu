#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

void CudaBackend::max_pool_forward(const MaxPoolForward&) { fail("max_pool_forward: not written yet for CUDA"); }
void CudaBackend::max_pool_backward(const MaxPoolBackward&) { fail("max_pool_backward: not written yet for CUDA"); }
void CudaBackend::adaptive_avg_pool_forward(const AdaptiveAvgPoolForward&) { fail("adaptive_avg_pool_forward: not written yet for CUDA"); }
void CudaBackend::adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward&) { fail("adaptive_avg_pool_backward: not written yet for CUDA"); }

}  // namespace frost::cuda
