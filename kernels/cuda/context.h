#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace frost::cuda {

/// One device and what every kernel file needs to queue work on it. All kernels and library calls go to `compute`.
class Context {
 public:
  /// Makes `device` current for the calling thread. Throws Error where a call fails.
  explicit Context(int device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// Kernels may be queued from several threads (loaders, NMS): each of them calls this first.
  void make_current() const;

  /// Memory in the order of the compute stream: it may be used by what is queued from now on. Throws OutOfMemory.
  void* allocate(std::size_t bytes);

  /// Memory for the length of one primitive, grown as needed, 256-byte aligned; contents do not outlive the primitive.
  /// Stream-ordered: what was queued before keeps its block, and what was captured keeps it for good. In a capture it cannot
  /// grow: Error.
  void* scratch(std::size_t bytes);

  int device = 0;
  int multiprocessors = 0;
  int capability = 0;            // 90: compute capability 9.0
  std::int64_t most_blocks = 0;  // worth launching for kernels that walk items with a grid stride
  std::size_t memory = 0;        // bytes in all
  std::string name;              // "NVIDIA H100 80GB HBM3"
  bool capturing = false;        // the compute stream records (capture.cpp)
  cudaStream_t compute = nullptr, copy = nullptr;

 private:
  void* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
  bool scratch_captured_ = false;  // a graph may be replayed that uses it
  std::vector<void*> retired_;     // scratch of old that graphs use
};

}  // namespace frost::cuda
