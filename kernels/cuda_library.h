#pragma once
#include <memory>
#include <string>

#include "kernels/backend.h"

/// The interface between the program and libfrost_cuda.so: the names and types of the library's two functions.
namespace frost {

struct CudaOptions {
  int device = 0;              // as CUDA counts them (CUDA_VISIBLE_DEVICES applies)
  bool deterministic = false;  // no autotuning, no engines whose results may differ from run to run
  bool tf32 = false;           // f32 convolutions and products may use TF32 tensor cores
};

inline constexpr const char* kCudaLibrary = "libfrost_cuda.so";
inline constexpr const char* kCudaInterfaceFunction = "frost_cuda_interface";
inline constexpr const char* kCudaBackendFunction = "frost_make_cuda_backend";

/// Names the interface that the library was built with: it must equal the program's own before anything else is called.
using CudaInterface = const char*();

/// Makes the backend, or leaves it empty and says in one line why CUDA is not usable. Does not throw.
using MakeCudaBackend = void(const CudaOptions& options, std::unique_ptr<Backend>& backend, std::string& why_not);

}  // namespace frost
