#pragma once
#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <mutex>
#include <utility>

#include "kernels/cuda/runtime/context.h"

namespace frost::cuda {

/// Pinned memory and a staging buffer on the device, between pageable host memory and tensors.
///
/// Uploads return as soon as the host memory may be reused. Large ones are copied on the copy stream, while kernels run, to
/// the staging buffer. A copy on the compute stream (13 us for a batch of 16 at 640) then moves them to the tensor, in the
/// order of the calls. Small ones (targets, learning rates) use the compute stream directly.
class Staging {
 public:
  explicit Staging(Context& context);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void upload(void* device, const void* host, std::size_t bytes);
  void download(void* host, const void* device, std::size_t bytes);  // complete when it returns
  void forget() { set_landing({}, 0); }                              // frees the staging buffer

 private:
  static constexpr std::size_t kSmall = std::size_t{64} << 10, kChunk = std::size_t{8} << 20;
  static constexpr std::size_t kMostLanding = std::size_t{256} << 20;

  /// Pinned memory, and an event: the last copy out of (or into) it is done.
  struct Buffer {
    void* memory = nullptr;
    cudaEvent_t done = nullptr;
  };
  void make(Buffer& buffer, std::size_t bytes);
  void* claim(Buffer& buffer, std::size_t bytes);  // waits until nothing is in flight
  void set_landing(PersistentWorkspace memory, std::size_t bytes) { landing_ = std::move(memory), landing_bytes_ = bytes; }
  void upload_piece(char* device, const char* host, std::size_t bytes);

  Context& context_;
  std::mutex mutex_;
  std::array<Buffer, 2> chunks_;   // of kChunk bytes, made when first needed
  std::array<Buffer, 16> smalls_;  // of kSmall
  std::size_t next_chunk_ = 0, next_small_ = 0;
  PersistentWorkspace landing_;
  std::size_t landing_bytes_ = 0;
  cudaEvent_t arrived_ = nullptr;  // copy stream: the staging buffer is filled
  cudaEvent_t moved_ = nullptr;    // compute stream: it is free again
};

}  // namespace frost::cuda
