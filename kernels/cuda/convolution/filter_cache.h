#pragma once
#include <compare>
#include <cstdint>
#include <map>

#include "kernels/cuda/convolution/conv_kernels.cuh"
#include "kernels/cuda/convolution/conv_key.h"
#include "kernels/persistent_workspace.h"

namespace frost::cuda {

/// Filters in the form that plans read, converted once for each version and kept by the caller's address and that form: a
/// layer's next values replace its last ones. Over a launcher (kernel_launch.cuh), so that the tests emulate it on the host.
class FilterCache {
 public:
  /// A convolution begins. `capture`: the captured graph that it becomes a part of; 0: none.
  void begin_call(unsigned long long capture) {
    capture_ = capture;
    ++calls_;
  }

  /// In the key's form: persistent workspace, or `room`: for values without a version, and for values first used in a
  /// capture, in which nothing is allocated.
  template <class Launcher>
  void* find(const Launcher& launch, const Filters& filters, const Shape& shape, const ConvKey& key, void* room) {
    const Form form{filters.data, shape, key.filters(), key.dtype};
    const auto convert = [&](void* to) {
      pack(launch, packed_view(filters.data, shape), packed_view(to, form.padded, form.dtype));
      return to;
    };
    if (filters.version == 0) return convert(room);
    auto it = kept_.find(form);
    if (it == kept_.end()) {
      if (capture_) return convert(room);
      // Filters of models that no longer exist (or are unused for thousands of convolutions) must not accumulate.
      std::erase_if(kept_, [&](const auto& item) { return calls_ - item.second.last_use > kRest; });
      const std::size_t bytes = static_cast<std::size_t>(form.padded.elements()) * size_of(form.dtype);
      it = kept_.emplace(form, Kept{.memory = launch.keep(bytes)}).first;
    }
    Kept& entry = it->second;
    entry.last_use = calls_;
    launch.captured_uses(entry.memory);
    // A captured conversion may never have run, if its capture was abandoned: only the same capture may use it.
    if (entry.version != filters.version || (entry.capture != 0 && entry.capture != capture_)) {
      convert(entry.memory.get());
      entry.version = filters.version;
      entry.capture = capture_;
    }
    return entry.memory.get();
  }

  void clear() { kept_.clear(); }

  static constexpr std::int64_t kRest = 8192;  // calls

 private:
  struct Form {
    const float* data;
    Shape filters, padded;
    DType dtype;
    auto operator<=>(const Form&) const = default;
  };
  struct Kept {
    PersistentWorkspace memory{};
    std::uint64_t version = 0;
    std::int64_t last_use = 0;
    unsigned long long capture = 0;  // the one that recorded the last conversion; 0: it was made at once
  };
  std::map<Form, Kept> kept_;
  std::int64_t calls_ = 0;
  unsigned long long capture_ = 0;
};

}  // namespace frost::cuda
