#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

std::vector<Detection> CudaBackend::nms(const Nms&) { fail("nms: not written yet for CUDA"); }

}  // namespace frost::cuda
