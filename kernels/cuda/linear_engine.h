#pragma once
#include "kernels/cuda/context.h"
#include "kernels/cuda_library.h"

namespace frost::cuda {

/// cuBLASLt's handle and plans.
class LinearEngine {
 public:
  LinearEngine(Context& context, const CudaOptions& options) : context_(context), options_(options) {}
  Context& context() { return context_; }
  const CudaOptions& options() const { return options_; }

 private:
  Context& context_;
  CudaOptions options_;
};

}  // namespace frost::cuda
