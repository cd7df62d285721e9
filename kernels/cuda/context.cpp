#include "kernels/cuda/context.h"

#include "kernels/cuda/check.h"
#include "kernels/out_of_memory.h"

namespace frost::cuda {

void fail_call(cudaError_t status, const char* call, const char* file, int line) {
  (void)cudaGetLastError();  // not left behind for a call that has nothing to do with it
  fail(call, ": ", cudaGetErrorName(status), " (", cudaGetErrorString(status), ") at ", place(file, line));
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
}

Context::~Context() {
  if (scratch_) cudaFreeAsync(scratch_, compute);
  if (copy) cudaStreamDestroy(copy);
  if (compute) cudaStreamDestroy(compute);
}

void Context::make_current() const { FROST_CUDA(cudaSetDevice(device)); }

void* Context::scratch(std::size_t bytes) {
  if (bytes > scratch_bytes_) {
    if (scratch_) FROST_CUDA(cudaFreeAsync(scratch_, compute));
    scratch_ = nullptr;
    scratch_bytes_ = 0;
    const std::size_t rounded = (bytes + (1u << 20) - 1) >> 20 << 20;
    const cudaError_t status = cudaMallocAsync(&scratch_, rounded, compute);
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      scratch_ = nullptr;
      throw OutOfMemory("out of memory on " + name + ": " + std::to_string(rounded) + " bytes of workspace asked for", rounded);
    }
    FROST_CUDA(status);
    scratch_bytes_ = rounded;
  }
  return scratch_;
}

}  // namespace frost::cuda
