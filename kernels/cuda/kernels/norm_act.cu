#include "kernels/cuda/kernels/norm_act.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

void CudaBackend::batch_statistics(const BatchStatistics& a) { cuda::batch_statistics(Launch(context_), a); }
void CudaBackend::norm_act_forward(const NormActForward& a) { cuda::norm_act_forward(Launch(context_), a); }
void CudaBackend::norm_act_backward(const NormActBackward& a) { cuda::norm_act_backward(Launch(context_), a); }

}  // namespace frost::cuda
