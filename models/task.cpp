#include "models/task.h"

#include <fmt/format.h>

#include "kernels/trace/trace.h"

namespace frost {

void FaultReports::of_training(const std::vector<std::string>& faults) const {
  for (const std::string& fault : faults) {
    if (strict_) fail(fault);
    observer_.warning(fmt::format("\nWARNING ⚠️ {}\n", fault));
  }
}

void FaultReports::of_validation(const std::vector<std::string>& faults) {
  for (const std::string& fault : faults) {
    if (first_.empty()) first_ = fault;
    observer_.warning(fmt::format("WARNING ⚠️ {}\n", fault));
  }
}

void FaultReports::check() const {
  if (strict_ && !first_.empty()) fail(first_);
}

std::vector<std::uint8_t> noise(const Backend& backend, std::size_t bytes) {
  std::vector<std::uint8_t> pixels;
  if (is_meta(backend)) return pixels;
  Rng rng(0);
  pixels.resize(bytes);
  for (std::uint8_t& pixel : pixels) pixel = static_cast<std::uint8_t>(rng.next());
  return pixels;
}

}  // namespace frost
