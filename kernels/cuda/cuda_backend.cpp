#include "kernels/cuda/cuda_backend.h"

#include "kernels/cuda/check.h"
#include "kernels/cuda/conv_engine.h"
#include "kernels/cuda/linear_engine.h"
#include "kernels/interface_hash.h"
#include "kernels/out_of_memory.h"

namespace frost::cuda {

class Staging {};

CudaBackend::CudaBackend(const CudaOptions& options)
    : options_(options),
      context_(options.device),
      staging_(std::make_unique<Staging>()),
      conv_(std::make_unique<ConvEngine>(context_, options)),
      linear_(std::make_unique<LinearEngine>(context_, options)) {}
CudaBackend::~CudaBackend() = default;

std::string CudaBackend::description() const { return "CUDA " + std::to_string(context_.device) + ": " + context_.name; }
bool CudaBackend::supports(DType compute) const {
  return compute == DType::f32 || compute == DType::f16 || compute == DType::bf16;
}

void* CudaBackend::allocate(std::size_t bytes) {
  void* memory = nullptr;
  FROST_CUDA(cudaMallocAsync(&memory, bytes ? bytes : 1, context_.compute));
  return memory;
}
void CudaBackend::release(void* memory) noexcept { cudaFreeAsync(memory, context_.compute); }
void CudaBackend::upload(void* device, const void* host, std::size_t bytes) {
  FROST_CUDA(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, context_.compute));
  FROST_CUDA(cudaStreamSynchronize(context_.compute));
}
void CudaBackend::download(void* host, const void* device, std::size_t bytes) {
  FROST_CUDA(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, context_.compute));
  FROST_CUDA(cudaStreamSynchronize(context_.compute));
}
void CudaBackend::zero(void* device, std::size_t bytes) { FROST_CUDA(cudaMemsetAsync(device, 0, bytes, context_.compute)); }
void CudaBackend::synchronize() { FROST_CUDA(cudaStreamSynchronize(context_.compute)); }

}  // namespace frost::cuda

#define FROST_EXPORT extern "C" __attribute__((visibility("default")))

FROST_EXPORT const char* frost_cuda_interface() { return frost::kInterfaceHash; }
FROST_EXPORT void frost_make_cuda_backend(const frost::CudaOptions& options, std::unique_ptr<frost::Backend>& backend,
                                          std::string& why_not) {
  try {
    backend = std::make_unique<frost::cuda::CudaBackend>(options);
  } catch (const std::exception& e) {
    why_not = e.what();
  }
}
