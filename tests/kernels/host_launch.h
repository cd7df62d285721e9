#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cuda/kernels/kernel_launch.cuh"
#include "kernels/persistent_workspace.h"

namespace frost::cuda {

/// Walks the CUDA kernels on the host (kernels/cuda/kernels/kernel_launch.cuh), one thread after the other and phase by
/// phase, as the barriers of a block do. Shared memory and scratch begin as 0xff bytes, NaN as floats, so that reading what
/// nobody wrote shows. `backwards` takes blocks and threads in the opposite order: where the results differ, threads race.
class HostLaunch {
 public:
  explicit HostLaunch(bool backwards = false, int multiprocessors = 2)
      : backwards_(backwards), multiprocessors_(multiprocessors) {}

  template <class Kernel>
  void items(std::int64_t count, const Kernel& kernel) const {
    for (std::int64_t i = 0; i < count; ++i) kernel(backwards_ ? count - 1 - i : i);
  }

  template <class Kernel>
  void blocks(std::int64_t count, const Kernel& kernel) const {
    static_assert(sizeof(typename Kernel::Shared) <= 48 * 1024, "static shared memory of a block");
    static_assert(Kernel::kThreads % 32 == 0 && Kernel::kThreads <= 1024, "threads of a block");
    const auto shared = std::make_unique<typename Kernel::Shared>();
    for (std::int64_t i = 0; i < count; ++i) {
      std::memset(static_cast<void*>(shared.get()), 0xff, sizeof(typename Kernel::Shared));
      std::vector<typename Kernel::Own> own(Kernel::kThreads, typename Kernel::Own{});
      run_block<0>(kernel, backwards_ ? count - 1 - i : i, *shared, own);
    }
  }

  template <class Kernel>
  void rounds(std::int64_t count, const Kernel& kernel) const {
    static_assert(sizeof(typename Kernel::Shared) <= 48 * 1024, "static shared memory of a block");
    static_assert(Kernel::kThreads % 32 == 0 && Kernel::kThreads <= 1024, "threads of a block");
    const auto shared = std::make_unique<typename Kernel::Shared>();
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t block = backwards_ ? count - 1 - i : i;
      std::memset(static_cast<void*>(shared.get()), 0xff, sizeof(typename Kernel::Shared));
      std::vector<typename Kernel::Own> own(Kernel::kThreads, typename Kernel::Own{});
      for (int t = 0; t < Kernel::kThreads; ++t) kernel.start(block, t, *shared, own[static_cast<std::size_t>(t)]);
      while (!kernel.done(*shared)) run_block<0>(kernel, block, *shared, own);
      for (int t = 0; t < Kernel::kThreads; ++t) kernel.finish(block, t, *shared, own[static_cast<std::size_t>(t)]);
    }
  }

  void to_device(void* device, const void* host, std::size_t bytes) const { std::memcpy(device, host, bytes); }
  void to_host(void* host, const void* device, std::size_t bytes) const { std::memcpy(host, device, bytes); }

  /// In CUB's place.
  std::size_t sort_bytes(std::int64_t) const { return 1; }
  void sort(const std::uint64_t* from, std::uint64_t* to, std::int64_t count, void*, std::size_t) const {
    std::partial_sort_copy(from, from + count, to, to + count);
  }

  void* scratch(std::size_t bytes) const {
    scratch_.assign(bytes + kAlign, 0xff);
    void* memory = scratch_.data();
    std::size_t space = scratch_.size();
    return std::align(kAlign, bytes, memory, space);
  }
  PersistentWorkspace keep(std::size_t bytes) const {
    std::shared_ptr<void> block(std::aligned_alloc(kAlign, (bytes + kAlign - 1) / kAlign * kAlign), std::free);
    std::memset(block.get(), 0xff, bytes);
    return block;
  }
  void captured_uses(const PersistentWorkspace&) const {}
  int multiprocessors() const { return multiprocessors_; }

 private:
  static constexpr std::size_t kAlign = 256;

  template <int phase, class Kernel>
  void run_block(const Kernel& kernel, std::int64_t block, typename Kernel::Shared& shared,
                 std::vector<typename Kernel::Own>& own) const {
    for (int i = 0; i < Kernel::kThreads; ++i) {
      const int thread = backwards_ ? Kernel::kThreads - 1 - i : i;
      kernel.template run<phase>(block, thread, shared, own[static_cast<std::size_t>(thread)]);
    }
    if constexpr (phase + 1 < Kernel::kPhases) run_block<phase + 1>(kernel, block, shared, own);
  }

  bool backwards_;
  int multiprocessors_;
  mutable std::vector<unsigned char> scratch_;
};

}  // namespace frost::cuda
