#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/nn/layers.h"

namespace frost::slim {

/// Which channels of a model belong together, found by running it once on a tape: the tape is the graph. Channels that are
/// added to each other (residuals) or multiplied (squeeze-excite) are one class and stay or go together; a concatenation
/// lists its parts' classes one after the other; a norm, a pooling, a resize hands them on. kFixed: the image's channels and
/// the outputs'.
struct ChannelGraph {
  static constexpr int kFixed = -1;
  struct Conv {
    Conv2d* conv;
    std::vector<int> in, out;  // the class of each channel
    std::int64_t pixels = 0;   // of its output, for the traced image, times the kernel's: multiply-adds for each in x out
  };
  struct Norm {
    BatchNorm2d* bn;
    std::vector<int> channels;
  };
  std::vector<Conv> convs;
  std::vector<Norm> norms;
  int classes = 0;
  /// Classes that the same convolutions write: rounded together, so that every convolution keeps a round number.
  std::vector<std::vector<int>> groups;

  /// Multiply-adds of the convolutions where only the classes of `keep` stay.
  double work(const std::vector<bool>& keep) const;
};
/// `forward` runs the model on the given image and returns its outputs. Throws Error for an operator that channels cannot be
/// followed through.
ChannelGraph trace_channels(Device& device, Module& model, const Shape& image,
                            const std::function<std::vector<Var>(Context&, const Var&)>& forward);

enum class Importance {
  l1,  // mean |w| of the filters that write the channel
  bn,  // |gamma| of the norms it passes
};

/// For each class, 1 on average over a layer, so that layers can be compared.
std::vector<double> channel_importance(const ChannelGraph& graph, Importance importance);

/// The classes to keep so that at least `amount` of the convolutions' multiply-adds go: one threshold on the importance for
/// the whole model, then each group rounded up to a multiple of `multiple` (8: what tensor cores load at once; 16: a vector
/// of AVX-512), and to at least an eighth of what it was. Throws Error where so much cannot be removed.
std::vector<bool> choose_channels(const ChannelGraph& graph, const std::vector<double>& importance, double amount,
                                  std::int64_t multiple = 8);

/// Removes the filters, norm channels and input channels of the classes that do not stay: a smaller dense model. Masks
/// shrink along. Anything made from the model before (arena, ema_model) is void.
void remove_channels(const ChannelGraph& graph, const std::vector<bool>& keep);

}  // namespace frost::slim
