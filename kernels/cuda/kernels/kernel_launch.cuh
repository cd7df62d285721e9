#pragma once
#include <cstdint>

#include "kernels/math/portable.h"

#if defined(__CUDACC__)
#include "kernels/cuda/kernels/launch.cuh"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/context.h"
#endif

/// How kernels are written, so that they can also be tested without a GPU. A kernel is a struct that holds its arguments
/// and a FROST_HD call operator; the part of a primitive that checks, picks types and vector widths and builds the struct
/// is a template over the launcher, in kernels/cuda/kernels/NAME.cuh. NAME.cu passes it a Launch; the tests pass the
/// HostLaunch of tests/kernels/host_launch.h, which emulates the same structs on the CPU.
///
/// Over items:
///   struct Scale { const float* x; float* y; float factor;
///                  FROST_HD void operator()(std::int64_t i) const { y[i] = factor * x[i]; } };
///   launch.items(count, Scale{x, y, factor});      // any order, each item once
///
/// With blocks whose threads share memory, in phases with a barrier after each:
///   struct Sum {
///     static constexpr int kThreads = 256, kPhases = 2;
///     struct Shared { float part[kThreads]; };     // in shared memory, not initialised
///     struct Own { int first; };                   // each thread's own registers, kept from phase to phase, zeroed
///     template <int phase> FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const;
///   };
///   launch.blocks(block_count, Sum{...});
///
/// The phases again and again until a block's shared memory says that it is done:
///   struct Rounds { ...; void start(block, thread, shared, own) const; bool done(const Shared&) const;
///                   void finish(block, thread, const shared, own) const; };      // all FROST_HD
///   launch.rounds(block_count, Rounds{...});
namespace frost::cuda {

/// Calls run<0>, run<1> ... of a block kernel for one thread, `barrier()` after each.
template <class Kernel, int phase = 0, class Barrier>
FROST_HD void run_phases(const Kernel& kernel, std::int64_t block, int thread, typename Kernel::Shared& shared,
                         typename Kernel::Own& own, const Barrier& barrier) {
  kernel.template run<phase>(block, thread, shared, own);
  if constexpr (phase + 1 < Kernel::kPhases) {
    barrier();
    run_phases<Kernel, phase + 1>(kernel, block, thread, shared, own, barrier);
  }
}

#if defined(__CUDACC__)

template <class Kernel>
__global__ void __launch_bounds__(kThreads) over_items(const Kernel kernel, const std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) kernel(i);
}

struct DeviceBarrier {
  __device__ __forceinline__ void operator()() const { __syncthreads(); }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) over_blocks(const Kernel kernel, const std::int64_t count) {
  __shared__ typename Kernel::Shared shared;
#if defined(__CUDA_ARCH__)
  for (std::int64_t block = blockIdx.x; block < count; block += gridDim.x) {
    auto thread = static_cast<int>(threadIdx.x);
    asm volatile("" : "+r"(thread));  // what follows from it is computed for each block: kept, it would cost registers
    typename Kernel::Own own{};
    run_phases(kernel, block, thread, shared, own, DeviceBarrier{});
    if (block + gridDim.x < count) __syncthreads();  // the next one writes where the last phase may still read
  }
#endif
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) over_rounds(const Kernel kernel, const std::int64_t count) {
  __shared__ typename Kernel::Shared shared;
#if defined(__CUDA_ARCH__)
  const auto thread = static_cast<int>(threadIdx.x);
  for (std::int64_t block = blockIdx.x; block < count; block += gridDim.x) {
    typename Kernel::Own own{};
    kernel.start(block, thread, shared, own);
    __syncthreads();
    while (!kernel.done(shared)) {
      run_phases(kernel, block, thread, shared, own, DeviceBarrier{});
      __syncthreads();
    }
    kernel.finish(block, thread, shared, own);
    if (block + gridDim.x < count) __syncthreads();
  }
#endif
}

/// Queues kernels on the compute stream.
class Launch {
 public:
  explicit Launch(Context& context) : context_(context) { context.make_current(); }

  /// Between host and device, in the order of the stream, and waited for.
  void to_device(void* device, const void* host, std::size_t bytes) const {
    FROST_CUDA(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, context_.compute));
    FROST_CUDA(cudaStreamSynchronize(context_.compute));
  }
  void to_host(void* host, const void* device, std::size_t bytes) const {
    FROST_CUDA(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, context_.compute));
    FROST_CUDA(cudaStreamSynchronize(context_.compute));
  }

  /// Context::scratch: one call a primitive, since the next one may give the same memory.
  void* scratch(std::size_t bytes) const { return context_.scratch(bytes); }
  PersistentWorkspace keep(std::size_t bytes) const { return context_.keep(bytes); }
  void captured_uses(const PersistentWorkspace& memory) const { context_.captured_uses(memory); }
  int multiprocessors() const { return context_.multiprocessors; }

  template <class Kernel>
  void items(std::int64_t count, const Kernel& kernel) const {
    if (count <= 0) return;
    over_items<<<grid(count, kThreads), kThreads, 0, context_.compute>>>(kernel, count);
    FROST_CUDA(cudaGetLastError());
  }
  template <class Kernel>
  void blocks(std::int64_t count, const Kernel& kernel) const {
    if (count <= 0) return;
    over_blocks<<<grid(count, 1), Kernel::kThreads, 0, context_.compute>>>(kernel, count);
    FROST_CUDA(cudaGetLastError());
  }
  template <class Kernel>
  void rounds(std::int64_t count, const Kernel& kernel) const {
    if (count <= 0) return;
    over_rounds<<<grid(count, 1), Kernel::kThreads, 0, context_.compute>>>(kernel, count);
    FROST_CUDA(cudaGetLastError());
  }

 private:
  unsigned grid(std::int64_t items, int to_a_block) const {
    return static_cast<unsigned>(grid_size(items, context_.most_blocks, to_a_block));
  }

  Context& context_;
};

#endif

}  // namespace frost::cuda
