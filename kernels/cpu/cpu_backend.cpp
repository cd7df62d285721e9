#include "kernels/cpu/cpu_backend.h"

#include <omp.h>

#include <cstdlib>
#include <cstring>

#include "kernels/cpu/conv_engine.h"
#include "kernels/out_of_memory.h"

namespace frost::cpu {

CpuBackend::CpuBackend() : conv_(std::make_unique<ConvEngine>()) {}
CpuBackend::~CpuBackend() = default;

std::string CpuBackend::description() const {
  return detail::join("CPU (", omp_get_max_threads(), " threads, ", ConvEngine::instruction_set(), ")");
}
bool CpuBackend::supports(DType compute) const {
  return compute == DType::f32 || (compute == DType::bf16 && ConvEngine::has_bf16());
}

void* CpuBackend::allocate(std::size_t bytes) {
  const std::size_t rounded = (bytes + 63) / 64 * 64;
  void* memory = std::aligned_alloc(64, rounded == 0 ? 64 : rounded);
  if (!memory) throw OutOfMemory("out of memory: " + std::to_string(bytes) + " bytes asked for", bytes);
  return memory;
}
void CpuBackend::release(void* memory) noexcept { std::free(memory); }
// An empty vector's data() may be null, which memcpy does not allow even for no bytes.
void CpuBackend::upload(void* device, const void* host, std::size_t bytes) {
  if (bytes > 0) std::memcpy(device, host, bytes);
}
void CpuBackend::download(void* host, const void* device, std::size_t bytes) {
  if (bytes > 0) std::memcpy(host, device, bytes);
}
void CpuBackend::zero(void* device, std::size_t bytes) {
  if (bytes > 0) std::memset(device, 0, bytes);
}

}  // namespace frost::cpu

namespace frost {
std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<cpu::CpuBackend>(); }
}  // namespace frost
