#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

void CudaBackend::resize_forward(const ResizeForward&) { fail("resize_forward: not written yet for CUDA"); }
void CudaBackend::resize_backward(const ResizeBackward&) { fail("resize_backward: not written yet for CUDA"); }

}  // namespace frost::cuda
