#pragma once
#include <memory>
#include <string>

#include "kernels/cuda_library.h"

namespace frost {

struct CudaResult {
  std::unique_ptr<Backend> backend;  // or empty:
  std::string why_not;               // one line for the user: "no NVIDIA driver (libcuda.so.1 not found)"
};

/// Opens libfrost_cuda.so (beside the program, then in ../lib, then on the dynamic linker's path; FROST_CUDA_LIBRARY names
/// another one) and makes its backend. Never throws for a machine or a build that cannot run CUDA.
CudaResult load_cuda(const CudaOptions& options);

}  // namespace frost
