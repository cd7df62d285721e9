#include "kernels/cuda/kernels/optimizer.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

void CudaBackend::sum_of_squares(const SumOfSquares& a) { cuda::sum_of_squares(Launch(context_), a); }
void CudaBackend::prepare_step(const PrepareStep& a) { Launch(context_).items(1, Prepare{a}); }
void CudaBackend::sgd_step(const SgdStep& a) { cuda::sgd_step(Launch(context_), a); }
void CudaBackend::adam_step(const AdamStep& a) { cuda::adam_step(Launch(context_), a); }
void CudaBackend::ema_update(const EmaUpdate& a) { cuda::ema_update(Launch(context_), a); }

}  // namespace frost::cuda
