#include "kernels/cuda/runtime/context.h"

#include <utility>

#include "kernels/cuda/runtime/check.h"
#include "kernels/out_of_memory.h"

namespace frost::cuda {
namespace {

std::string mebibytes(std::size_t bytes) { return std::to_string((bytes + (std::size_t{1} << 20) - 1) >> 20) + " MiB"; }

}  // namespace

void fail_call(cudaError_t status, const char* call, const char* file, int line) {
  (void)cudaGetLastError();  // so that a later, unrelated call does not report it
  const std::string message = frost::detail::join(call, ": ", cudaGetErrorName(status), " (", cudaGetErrorString(status),
                                                  ") at ", place(file, line));
  if (status == cudaErrorMemoryAllocation) throw OutOfMemory(message, 0);
  throw Error(message);
}
void fail_call(cublasStatus_t status, const char* call, const char* file, int line) {
  fail(call, ": ", cublasLtGetStatusName(status), " (", cublasLtGetStatusString(status), ") at ", place(file, line));
}

Context::Context(int device_number) : device(device_number) {
  make_current();
  cudaDeviceProp properties;
  FROST_CUDA(cudaGetDeviceProperties(&properties, device));
  name = properties.name;
  multiprocessors = properties.multiProcessorCount;
  capability = 10 * properties.major + properties.minor;
  memory = properties.totalGlobalMem;
  // 2048 threads of a multiprocessor hold 8 blocks of 256: four rounds even out the end of a grid without much launching.
  most_blocks = std::int64_t{multiprocessors} * 32;
  FROST_CUDA(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
  FROST_CUDA(cudaStreamCreateWithFlags(&copy, cudaStreamNonBlocking));
  // The pool keeps what is released: without this, every synchronisation would give it back to the driver.
  cudaMemPool_t pool;
  FROST_CUDA(cudaDeviceGetDefaultMemPool(&pool, device));
  std::uint64_t keep = UINT64_MAX;
  FROST_CUDA(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
}

Context::~Context() {
  scratch_ = {};
  if (copy) cudaStreamDestroy(copy);
  if (compute) cudaStreamDestroy(compute);
}

void Context::make_current() const { FROST_CUDA(cudaSetDevice(device)); }

void* Context::allocate(std::size_t bytes) {
  make_current();
  void* block = nullptr;
  // While the compute stream captures, memory comes through the other one: it must not become a part of the graph.
  const cudaStream_t stream = capturing ? copy : compute;
  cudaError_t status = cudaMallocAsync(&block, bytes, stream);
  if (status == cudaErrorMemoryAllocation && !capturing) {
    // Free memory in pieces of other sizes goes back to the device after all queued work has finished.
    (void)cudaGetLastError();
    FROST_CUDA(cudaStreamSynchronize(compute));
    cudaMemPool_t pool;
    FROST_CUDA(cudaDeviceGetDefaultMemPool(&pool, device));
    FROST_CUDA(cudaMemPoolTrimTo(pool, 0));
    status = cudaMallocAsync(&block, bytes, compute);
  }
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    std::size_t free = 0, total = 0;
    FROST_CUDA(cudaMemGetInfo(&free, &total));
    throw OutOfMemory(frost::detail::join("out of memory on CUDA ", device, " (", name, "): ", mebibytes(bytes),
                                          " asked for, ", mebibytes(free), " of ", mebibytes(total), " free"),
                      bytes);
  }
  FROST_CUDA(status);
  if (capturing) FROST_CUDA(cudaStreamSynchronize(copy));
  return block;
}

void Context::release(void* memory) noexcept {
  if (!memory) return;
  if (capturing)
    released_.push_back(memory);
  else if (cudaFreeAsync(memory, compute) != cudaSuccess)
    (void)cudaGetLastError();
}

PersistentWorkspace Context::keep(std::size_t bytes) {
  if (source_) return source_(bytes);
  return {allocate(bytes), [this](void* memory) { release(memory); }};
}
void Context::keep_from(PersistentWorkspaceSource source) {
  scratch_ = {};
  scratch_bytes_ = 0;
  source_ = std::move(source);
}

void* Context::scratch(std::size_t bytes) {
  if (bytes > scratch_bytes_) {
    FROST_CHECK(!capturing, "CUDA: a step under capture wants ", bytes, " bytes of workspace, the run before it ",
                scratch_bytes_);
    scratch_ = {};  // the old one first: both together could be too much
    scratch_bytes_ = 0;
    const std::size_t rounded = (bytes + (1u << 20) - 1) >> 20 << 20;
    scratch_ = keep(rounded);
    scratch_bytes_ = rounded;
  }
  captured_uses(scratch_);
  return scratch_.get();
}

// Relaxed: memory may be made meanwhile on the copy stream, which is not recorded (allocate()).
void Context::begin_capture() {
  make_current();
  FROST_CUDA(cudaStreamBeginCapture(compute, cudaStreamCaptureModeRelaxed));
  capturing = true;
}

cudaGraph_t Context::end_capture(Belongings& belongings) {
  cudaGraph_t graph = nullptr;
  const cudaError_t status = cudaStreamEndCapture(compute, &graph);
  capturing = false;
  belongings = std::exchange(belongings_, {});
  for (void* memory : std::exchange(released_, {})) release(memory);
  FROST_CUDA(status);
  return graph;
}

}  // namespace frost::cuda
