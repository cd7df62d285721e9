#include "kernels/cuda/kernels/softmax.cuh"

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"

namespace frost::cuda {

void CudaBackend::softmax_forward(const SoftmaxForward& a) { cuda::softmax_forward(Launch(context_), a); }
void CudaBackend::softmax_backward(const SoftmaxBackward& a) { cuda::softmax_backward(Launch(context_), a); }
void CudaBackend::cross_entropy(const CrossEntropy& a) { cuda::cross_entropy(Launch(context_), a); }

}  // namespace frost::cuda
