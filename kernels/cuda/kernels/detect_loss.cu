#include "kernels/cuda/kernels/detect_loss.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

std::size_t CudaBackend::detect_loss_workspace(const DetectLoss& a) const {
  std::size_t bytes = 0;
  plan_loss(a, bytes);
  return bytes;
}
void CudaBackend::detect_loss(const DetectLoss& a) { cuda::detect_loss(Launch(context_), a); }

}  // namespace frost::cuda
