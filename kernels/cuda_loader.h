#pragma once
#include <memory>
#include <string>

#include "kernels/cuda_library.h"

namespace frost {

struct CudaResult {
  std::unique_ptr<Backend> backend;  // or empty:
  std::string why_not;               // one line for the user: "no NVIDIA driver (libcuda.so.1 not found)"
};

/// Opens libfrost_cuda.so (FROST_CUDA_LIBRARY where that is set, else beside the program, in ../lib beside that, then on the
/// dynamic linker's path) and makes its backend. Never throws for a machine or a build that cannot run CUDA.
CudaResult load_cuda(const CudaOptions& options);

}  // namespace frost
