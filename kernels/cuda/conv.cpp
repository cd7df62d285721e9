#include "kernels/cuda/cuda_backend.h"

namespace frost::cuda {

void CudaBackend::conv_forward(const ConvForward&) { fail("conv_forward: not written yet for CUDA"); }
void CudaBackend::conv_backward_data(const ConvBackwardData&) { fail("conv_backward_data: not written yet for CUDA"); }
void CudaBackend::conv_backward_weight(const ConvBackwardWeight&) { fail("conv_backward_weight: not written yet for CUDA"); }

}  // namespace frost::cuda
