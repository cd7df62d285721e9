#include "kernels/cuda/cuda_backend.h"

#include <utility>

#include "kernels/cuda/convolution/conv_engine.h"
#include "kernels/cuda/kernels/linear_engine.h"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/staging.h"
#include "kernels/cuda/runtime/usable.h"

namespace frost::cuda {
namespace {

constexpr int kLeastCapability = 80;  // CMAKE_CUDA_ARCHITECTURES' oldest: bf16 and asynchronous copies begin there

/// Throws Error with the one line that says why CUDA is not usable.
void check_machine(int wanted) {
  MachineFacts facts;
  facts.runtime_cuda = CUDART_VERSION;
  facts.wanted = wanted;
  facts.least_capability = kLeastCapability;
  FROST_CUDA(cudaDriverGetVersion(&facts.driver_cuda));  // 0 where there is none
  const cudaError_t counted = cudaGetDeviceCount(&facts.devices);
  if (counted == cudaErrorNoDevice) {
    facts.devices = 0;
    (void)cudaGetLastError();
  } else if (counted != cudaErrorInsufficientDriver) {
    FROST_CUDA(counted);
  }
  if (facts.devices > 0 && wanted >= 0 && wanted < facts.devices) {
    cudaDeviceProp properties;
    FROST_CUDA(cudaGetDeviceProperties(&properties, wanted));
    facts.device_name = properties.name;
    facts.capability = 10 * properties.major + properties.minor;
  }
  facts.cudnn = static_cast<long>(cudnnGetVersion());
  facts.cudnn_headers = CUDNN_VERSION;
  facts.cudnn_cuda = static_cast<long>(cudnnGetCudartVersion());
  for (const auto check : {cudnnGraphVersionCheck, cudnnOpsVersionCheck, cudnnCnnVersionCheck})
    if (const cudnnStatus_t status = check(); status != CUDNN_STATUS_SUCCESS && facts.cudnn_parts.empty())
      facts.cudnn_parts = cudnnGetErrorString(status);
  if (const std::string why = why_not_usable(facts); !why.empty()) throw Error(why);
}

}  // namespace

CudaBackend::CudaBackend(const CudaOptions& options)
    : options_(options),
      context_(options.device),
      staging_(std::make_unique<Staging>(context_)),
      conv_(std::make_unique<ConvEngine>(context_, options)),
      linear_(std::make_unique<LinearEngine>(context_, options)) {}
CudaBackend::~CudaBackend() { cudaStreamSynchronize(context_.compute); }

std::string CudaBackend::description() const {
  return frost::detail::join("CUDA ", context_.device, ": ", context_.name, " (sm_", context_.capability, ", ",
                             context_.memory >> 30, " GiB, cuDNN ", cudnn_version(static_cast<long>(cudnnGetVersion())),
                             ")");
}
bool CudaBackend::supports(DType compute) const {
  return compute == DType::f32 || compute == DType::f16 || compute == DType::bf16;
}

void* CudaBackend::allocate(std::size_t bytes) { return context_.allocate(bytes ? bytes : 1); }
void CudaBackend::release(void* memory) noexcept { context_.release(memory); }
void CudaBackend::upload(void* device, const void* host, std::size_t bytes) { staging_->upload(device, host, bytes); }
void CudaBackend::download(void* host, const void* device, std::size_t bytes) { staging_->download(host, device, bytes); }
void CudaBackend::zero(void* device, std::size_t bytes) {
  context_.make_current();
  FROST_CUDA(cudaMemsetAsync(device, 0, bytes, context_.compute));
}
void CudaBackend::synchronize() { FROST_CUDA(cudaStreamSynchronize(context_.compute)); }
void CudaBackend::set_workspace_source(PersistentWorkspaceSource source) {
  staging_->forget();
  conv_->forget();
  context_.keep_from(std::move(source));
}

}  // namespace frost::cuda

#define FROST_EXPORT extern "C" __attribute__((visibility("default")))

FROST_EXPORT const char* frost_cuda_interface() { return FROST_INTERFACE; }
FROST_EXPORT void frost_make_cuda_backend(const frost::CudaOptions& options, std::unique_ptr<frost::Backend>& backend,
                                          std::string& why_not) {
  try {
    frost::cuda::check_machine(options.device);
    backend = std::make_unique<frost::cuda::CudaBackend>(options);
  } catch (const std::exception& e) {
    why_not = e.what();
  }
}
