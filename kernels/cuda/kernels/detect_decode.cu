#include "kernels/cuda/kernels/detect_decode.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

DecodedRows CudaBackend::detect_decode(const DetectDecode& a) { return cuda::detect_decode(Launch(context_), a); }

}  // namespace frost::cuda
