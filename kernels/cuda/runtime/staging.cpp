#include "kernels/cuda/runtime/staging.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/runtime/check.h"

namespace frost::cuda {

Staging::Staging(Context& context) : context_(context) {
  FROST_CUDA(cudaEventCreateWithFlags(&arrived_, cudaEventDisableTiming));
  FROST_CUDA(cudaEventCreateWithFlags(&moved_, cudaEventDisableTiming));
}

Staging::~Staging() {
  const auto drop = [](Buffer& b) {
    if (b.done) cudaEventSynchronize(b.done), cudaEventDestroy(b.done);
    if (b.memory) cudaFreeHost(b.memory);
  };
  std::ranges::for_each(chunks_, drop);
  std::ranges::for_each(smalls_, drop);
  cudaEventDestroy(arrived_);
  cudaEventDestroy(moved_);
}

void Staging::make(Buffer& buffer, std::size_t bytes) {
  FROST_CUDA(cudaMallocHost(&buffer.memory, bytes));
  FROST_CUDA(cudaEventCreateWithFlags(&buffer.done, cudaEventDisableTiming));
}
void* Staging::claim(Buffer& buffer, std::size_t bytes) {
  if (!buffer.memory) make(buffer, bytes);
  FROST_CUDA(cudaEventSynchronize(buffer.done));  // an event that was never recorded is done
  return buffer.memory;
}

void Staging::upload(void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  const std::lock_guard lock(mutex_);
  context_.make_current();
  if (bytes <= kSmall) {
    Buffer& buffer = smalls_[next_small_++ % smalls_.size()];
    std::memcpy(claim(buffer, kSmall), host, bytes);
    FROST_CUDA(cudaMemcpyAsync(device, buffer.memory, bytes, cudaMemcpyHostToDevice, context_.compute));
    FROST_CUDA(cudaEventRecord(buffer.done, context_.compute));
    return;
  }
  if (landing_bytes_ < std::min(bytes, kMostLanding)) {
    // Stream-ordered: the old block is freed after the work queued before has finished with it.
    forget();
    const std::size_t wanted = std::min((bytes + kChunk - 1) / kChunk * kChunk, kMostLanding);
    set_landing(context_.keep(wanted), wanted);
    FROST_CUDA(cudaEventRecord(moved_, context_.compute));  // not before the allocation
  }
  for (std::size_t at = 0; at < bytes; at += landing_bytes_)
    upload_piece(static_cast<char*>(device) + at, static_cast<const char*>(host) + at, std::min(landing_bytes_, bytes - at));
}

void Staging::upload_piece(char* device, const char* host, std::size_t bytes) {
  FROST_CUDA(cudaStreamWaitEvent(context_.copy, moved_));
  for (std::size_t at = 0; at < bytes; at += kChunk) {
    const std::size_t count = std::min(kChunk, bytes - at);
    Buffer& buffer = chunks_[next_chunk_++ % chunks_.size()];
    std::memcpy(claim(buffer, kChunk), host + at, count);
    FROST_CUDA(cudaMemcpyAsync(static_cast<char*>(landing_.get()) + at, buffer.memory, count, cudaMemcpyHostToDevice,
                               context_.copy));
    FROST_CUDA(cudaEventRecord(buffer.done, context_.copy));
  }
  FROST_CUDA(cudaEventRecord(arrived_, context_.copy));
  FROST_CUDA(cudaStreamWaitEvent(context_.compute, arrived_));
  FROST_CUDA(cudaMemcpyAsync(device, landing_.get(), bytes, cudaMemcpyDeviceToDevice, context_.compute));
  FROST_CUDA(cudaEventRecord(moved_, context_.compute));
}

void Staging::download(void* host, const void* device, std::size_t bytes) {
  if (bytes == 0) return;
  const std::lock_guard lock(mutex_);
  context_.make_current();
  // While one chunk is copied to its place on the host, the next one is transferred.
  const bool small = bytes <= kSmall;
  const std::size_t size = small ? kSmall : kChunk;
  const auto start = [&](std::size_t at) -> Buffer& {
    Buffer& buffer = small ? smalls_[next_small_++ % smalls_.size()] : chunks_[next_chunk_++ % chunks_.size()];
    claim(buffer, size);
    FROST_CUDA(cudaMemcpyAsync(buffer.memory, static_cast<const char*>(device) + at, std::min(size, bytes - at),
                               cudaMemcpyDeviceToHost, context_.compute));
    FROST_CUDA(cudaEventRecord(buffer.done, context_.compute));
    return buffer;
  };
  Buffer* ahead = &start(0);
  for (std::size_t at = 0; at < bytes; at += size) {
    Buffer& buffer = *ahead;
    if (at + size < bytes) ahead = &start(at + size);
    FROST_CUDA(cudaEventSynchronize(buffer.done));
    std::memcpy(static_cast<char*>(host) + at, buffer.memory, std::min(size, bytes - at));
  }
}

}  // namespace frost::cuda
