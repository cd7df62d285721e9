#pragma once
#include <memory>

#include "kernels/conv.h"
#include "kernels/cuda/runtime/context.h"
#include "kernels/cuda_library.h"

namespace frost::cuda {

/// cuBLASLt's matrix products behind frost's contract: f32, in TF32 only where it was asked for. The algorithm is the
/// heuristic's first, found once for each form. For use by one thread at a time.
class LinearEngine {
 public:
  LinearEngine(Context& context, const CudaOptions& options);
  ~LinearEngine();

  void forward(const LinearForward&);
  void backward(const LinearBackward&);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace frost::cuda
