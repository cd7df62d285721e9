#include "kernels/cuda/elementwise.h"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/run.h"

namespace frost::cuda {

void CudaBackend::add(const AddForward& a) {
  Launch(context_).items(a.y.shape.pixels() * a.y.shape.c / 8,
                         Add<math::f16, 8, std::int32_t>{a.a.as<math::f16>(), a.b.as<math::f16>(), a.y.as<math::f16>(), 8, 8, 8, 1});
}

void CudaBackend::copy(const CopyView&) { fail("copy: not written yet for CUDA"); }
void CudaBackend::mul_forward(const MulForward&) { fail("mul_forward: not written yet for CUDA"); }
void CudaBackend::mul_backward(const MulBackward&) { fail("mul_backward: not written yet for CUDA"); }
void CudaBackend::activation_forward(const ActivationForward&) { fail("activation_forward: not written yet for CUDA"); }
void CudaBackend::activation_backward(const ActivationBackward&) { fail("activation_backward: not written yet for CUDA"); }
void CudaBackend::zero_pad_forward(const ZeroPad&) { fail("zero_pad_forward: not written yet for CUDA"); }
void CudaBackend::zero_pad_backward(const ZeroPad&) { fail("zero_pad_backward: not written yet for CUDA"); }
void CudaBackend::space_to_depth(const SpaceToDepth&) { fail("space_to_depth: not written yet for CUDA"); }
void CudaBackend::depth_to_space(const DepthToSpace&) { fail("depth_to_space: not written yet for CUDA"); }
void CudaBackend::normalize_image(const NormalizeImage&) { fail("normalize_image: not written yet for CUDA"); }

}  // namespace frost::cuda
