#include "kernels/cuda/kernels/elementwise.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

void CudaBackend::copy(const CopyView& a) { cuda::copy(Launch(context_), a); }
void CudaBackend::add(const AddForward& a) { cuda::add(Launch(context_), a); }
void CudaBackend::mul_forward(const MulForward& a) { cuda::mul_forward(Launch(context_), a); }
void CudaBackend::mul_backward(const MulBackward& a) { cuda::mul_backward(Launch(context_), a); }
void CudaBackend::activation_forward(const ActivationForward& a) { cuda::activation_forward(Launch(context_), a); }
void CudaBackend::activation_backward(const ActivationBackward& a) { cuda::activation_backward(Launch(context_), a); }
void CudaBackend::zero_pad_forward(const ZeroPad& a) { cuda::zero_pad_forward(Launch(context_), a); }
void CudaBackend::zero_pad_backward(const ZeroPad& a) { cuda::zero_pad_backward(Launch(context_), a); }
void CudaBackend::space_to_depth(const SpaceToDepth& a) { cuda::space_to_depth(Launch(context_), a); }
void CudaBackend::depth_to_space(const DepthToSpace& a) { cuda::depth_to_space(Launch(context_), a); }
void CudaBackend::normalize_image(const NormalizeImage& a) { cuda::normalize_image(Launch(context_), a); }

}  // namespace frost::cuda
