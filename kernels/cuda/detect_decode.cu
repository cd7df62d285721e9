#include "kernels/cuda/detect_decode.h"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernel_launch.h"

namespace frost::cuda {

DecodedRows CudaBackend::detect_decode(const DetectDecode& a) { return cuda::detect_decode(Launch(context_), a); }

}  // namespace frost::cuda
