#pragma once
#include <memory>

#include "kernels/conv.h"
#include "kernels/cuda/runtime/context.h"
#include "kernels/cuda_library.h"

namespace frost::cuda {

/// cuDNN's convolutions behind frost's contract. A *plan* (an engine of cuDNN with its settings) is found once for each
/// ConvKey: the best of what the heuristics name, timed on the first call's own tensors, remembered on disk. Filters are
/// converted and padded once for each version. Operands that cuDNN cannot take as they lie (channel slices, channel counts
/// that are no multiple of 8) go through Context::scratch.
///
/// CUDA graphs: run a step once before it is captured, so that its plans are found and its memory is there. In a capture
/// nothing is timed and nothing allocated, each filter is converted once (a replay meets new values under the old version),
/// and what captured work runs and reads (plans, filters) belongs to its captured graph as well.
///
/// For use by one thread at a time.
class ConvEngine {
 public:
  ConvEngine(Context& context, const CudaOptions& options);
  ~ConvEngine();

  void forward(const ConvForward&);
  void backward_data(const ConvBackwardData&);
  void backward_weight(const ConvBackwardWeight&);

  /// Converted filters go; plans stay.
  void forget();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace frost::cuda
