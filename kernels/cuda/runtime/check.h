#pragma once
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <cstddef>
#include <string>

#include "kernels/error.h"

/// The status of every CUDA, cuDNN and cuBLASLt call is checked: FROST_CUDA(cudaMemsetAsync(p, 0, n, stream)) throws an
/// Error with the call, the status' name and the library's message. Kernels are checked after each launch.
namespace frost::cuda {

/// "cudaMalloc(...): cudaErrorMemoryAllocation (out of memory)", with the place. Clears CUDA's last error.
[[noreturn]] void fail_call(cudaError_t status, const char* call, const char* file, int line);
[[noreturn]] void fail_call(cudnnStatus_t status, const char* call, const char* file, int line);
[[noreturn]] void fail_call(cublasStatus_t status, const char* call, const char* file, int line);

/// "kernels/cuda/kernels/pool.cu:12" of an absolute path.
inline std::string place(const char* file, int line) {
  const std::string path = file;
  const auto start = path.rfind("kernels/");
  return (start == std::string::npos ? path : path.substr(start)) + ":" + std::to_string(line);
}

inline void check_call(cudaError_t status, const char* call, const char* file, int line) {
  if (status != cudaSuccess) fail_call(status, call, file, line);
}
inline void check_call(cudnnStatus_t status, const char* call, const char* file, int line) {
  if (status != CUDNN_STATUS_SUCCESS) fail_call(status, call, file, line);
}
inline void check_call(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status != CUBLAS_STATUS_SUCCESS) fail_call(status, call, file, line);
}

/// cuDNN 9's statuses come in families of 1000: CUDNN_STATUS_NOT_SUPPORTED is 3000, its reasons are 3001 and up. "No" to a
/// graph is no error where another one can be tried.
constexpr bool not_supported(cudnnStatus_t status) {
  return static_cast<int>(status) / 1000 == static_cast<int>(CUDNN_STATUS_NOT_SUPPORTED) / 1000;
}

}  // namespace frost::cuda

#define FROST_CUDA(call) ::frost::cuda::check_call((call), #call, __FILE__, __LINE__)
