#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

void CudaBackend::sgd_step(const SgdStep&) { fail("sgd_step: not written yet for CUDA"); }
void CudaBackend::adam_step(const AdamStep&) { fail("adam_step: not written yet for CUDA"); }
void CudaBackend::ema_update(const EmaUpdate&) { fail("ema_update: not written yet for CUDA"); }
double CudaBackend::sum_of_squares(const float*, std::int64_t) { fail("sum_of_squares: not written yet for CUDA"); }

}  // namespace frost::cuda
