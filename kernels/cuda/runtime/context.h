#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/persistent_workspace.h"

namespace frost::cuda {

/// One device and what every kernel file needs to queue work on it. All kernels and library calls go to `compute`.
class Context {
 public:
  /// Makes `device` current for the calling thread. Throws Error where a call fails.
  explicit Context(int device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// Work may be queued from different threads, one at a time: each of them calls this first.
  void make_current() const;

  /// Memory in the order of the compute stream: it may be used by what is queued from now on. Throws OutOfMemory.
  void* allocate(std::size_t bytes);
  /// Freed after the work queued before has finished with it; during a capture, after the capture has ended.
  void release(void* memory) noexcept;

  /// The backend's own memory, from the source that accounts it (Backend::set_workspace_source).
  PersistentWorkspace keep(std::size_t bytes);
  /// Frees scratch; the caller frees everything else.
  void keep_from(PersistentWorkspaceSource source);

  /// Memory for the length of one primitive, grown as needed, 256-byte aligned; contents do not outlive the primitive.
  /// Stream-ordered: what was queued before keeps its block, and so does what was captured. In a capture it cannot grow:
  /// Error.
  void* scratch(std::size_t bytes);

  /// What a captured graph uses (memory, plans) exists as long as the graph, even if all other owners release it.
  using Belongings = std::set<std::shared_ptr<const void>>;
  void begin_capture();
  /// Records what the captured work needs; does nothing outside of a capture.
  void captured_uses(const std::shared_ptr<const void>& thing) {
    if (capturing) belongings_.insert(thing);
  }
  /// The captured graph is the caller's to destroy.
  cudaGraph_t end_capture(Belongings& belongings);

  int device = 0;
  int multiprocessors = 0;
  int capability = 0;            // 90: compute capability 9.0
  std::int64_t most_blocks = 0;  // worth launching for kernels with a grid stride
  std::size_t memory = 0;        // bytes in all
  std::string name;              // "NVIDIA H100 80GB HBM3"
  bool capturing = false;        // the compute stream captures
  cudaStream_t compute = nullptr, copy = nullptr;

 private:
  PersistentWorkspaceSource source_;
  PersistentWorkspace scratch_;
  std::size_t scratch_bytes_ = 0;
  Belongings belongings_;        // of the capture that runs
  std::vector<void*> released_;  // while it runs: a free must not become a part of the graph
};

}  // namespace frost::cuda
