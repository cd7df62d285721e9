#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

void CudaBackend::detect_decode(const DetectDecode&) { fail("detect_decode: not written yet for CUDA"); }

}  // namespace frost::cuda
