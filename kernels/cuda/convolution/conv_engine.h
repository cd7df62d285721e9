#pragma once
#include <memory>

#include "kernels/conv.h"
#include "kernels/cuda/runtime/context.h"
#include "kernels/cuda_library.h"

namespace frost::cuda {

/// cuDNN's convolutions behind frost's contract. A *plan* (an engine of cuDNN with its settings) is found once for each
/// ConvKey: the fastest that the heuristics offer, timed on the first call's own tensors, stored on disk. Filters are
/// converted and padded once for each version. Operands that cuDNN cannot use in place (channel slices, channel counts that
/// are no multiple of 8) go through Context::scratch.
///
/// CUDA graphs: run a step once before it is captured, so that its plans are found and its memory is there. In a capture
/// nothing is timed and nothing allocated, each filter is converted once (in a replay the old version has new values), and
/// the captured graph shares ownership of the plans and filters that it uses.
///
/// For use by one thread at a time.
class ConvEngine {
 public:
  ConvEngine(Context& context, const CudaOptions& options);
  ~ConvEngine();

  void forward(const ConvForward&);
  void backward_data(const ConvBackwardData&);
  void backward_weight(const ConvBackwardWeight&);

  /// Frees the converted filters; plans stay.
  void forget();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace frost::cuda
