#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

DetectLossResult CudaBackend::detect_loss(DetectLoss&) { fail("detect_loss: not written yet for CUDA"); }

}  // namespace frost::cuda
