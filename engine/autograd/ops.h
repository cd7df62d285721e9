#pragma once
#include <vector>

#include "engine/autograd/context.h"

namespace frost {

// One operator = one function that reads like the maths. Each says what backward will read.

/// y = conv(x, weight) + bias. Saves x only if the weight is trainable; needs no saved weight beyond the parameter itself.
Var conv2d(Context&, const Var& x, Parameter& weight, Parameter* bias, const ConvGeometry&, DType out, const Output& = {});

/// y = activation(conv(x, weight) + bias) with constants (a fused block): nothing is recorded, x must need no gradient.
Var conv2d_constant(Context&, const Var& x, Filters weight, std::int64_t out_channels, const float* bias,
                    const ConvGeometry&, Activation, const Output& = {});

/// What norm_act reads of a BatchNorm. `mean`, `rstd`: the running ones, used where batch_statistics is false.
struct NormOperands {
  Parameter &weight, &bias;
  Tensor running_mean, running_var;  // updated where batch_statistics is true
  Tensor mean, rstd;
  float eps = 1e-5f, momentum = 0.1f;
  bool batch_statistics = true;
};
/// What a block adds to its own branch, and where: after the activation, or before it. Null: nothing.
struct Residual {
  const Var* value = nullptr;
  ResidualOrder order = ResidualOrder::after_activation;
  Residual(const Var* value = nullptr, ResidualOrder order = ResidualOrder::after_activation) : value(value), order(order) {}
  explicit operator bool() const { return value != nullptr; }
  bool before_activation() const { return value && order == ResidualOrder::before_activation; }
};
/// y = activation(weight * (x - mean) * rstd + bias) [+ residual]. Saves x and the two channel vectors; y can be
/// rematerialized. A residual before the activation is saved too, and such a y is kept: rematerializing one block would
/// first rematerialize the block before it, and so on to the first.
Var norm_act(Context&, const Var& x, const NormOperands&, Activation, Residual = {}, const Output& = {});

/// y = weight x + bias for each image: x of any type is read as f32, y is f32 (n, 1, 1, out). The weight has x's own shape
/// for each output, so that flattening costs nothing. Saves x only if the weight is trainable.
Var linear(Context&, const Var& x, Parameter& weight, Parameter* bias);

/// y = x where it is kept, grown by 1 / (1 - p), else 0; in evaluation x itself. Saves nothing: from the layer's seed and
/// the pass's seed backward makes the same choices.
Var dropout(Context&, const Var& x, float p, std::uint64_t seed);

Var activation(Context&, const Var& x, Activation);                 // saves x; y can be rematerialized
Var as_type(Context&, const Var& x, DType);                         // x in another type; saves nothing
Var add(Context&, const Var& a, const Var& b, const Output& = {});  // saves nothing
/// y = a * b; b has a's shape, or is (n, 1, 1, c): one factor for each channel (squeeze-excite). Saves what the gradients
/// that are wanted read: b for a's, a for b's. Where a can be rematerialized, so can y.
Var mul(Context&, const Var& a, const Var& b);
Var max_pool(Context&, const Var& x, PoolGeometry, const Output& = {});  // saves x
/// Means over the cells of a (height, width) grid (PyTorch's AdaptiveAvgPool2d); 1, 1 is the mean of the image. Saves
/// nothing.
Var average_pool(Context&, const Var& x, std::int64_t height, std::int64_t width);
/// Means over windows (PyTorch's AvgPool2d). Saves nothing; y can be rematerialized where x can.
Var average_pool(Context&, const Var& x, PoolGeometry, bool count_include_pad = true, const Output& = {});
Var upsample(Context&, const Var& x, std::int64_t height, std::int64_t width, ResizeMode,
             const Output& = {});                                                // saves nothing
Var zero_pad(Context&, const Var& x, int left, int right, int top, int bottom);  // saves nothing
Var space_to_depth(Context&, const Var& x);                                      // saves nothing

/// The channels of the parts side by side. Parts that are already in `joined` (see Concatenation) cost nothing; others are
/// copied. Saves nothing; each part's gradient is a slice of dy.
Var concat(Context&, const std::vector<Var>& parts, Tensor joined = {});

/// A concatenation whose parts are written in place: give each producer `output(k)`, then `join` the results.
class Concatenation {
 public:
  Concatenation(Context& context, const Shape& pixels, std::vector<std::int64_t> channels);
  Output output(std::size_t part) const;
  Var join(const std::vector<Var>& parts) { return concat(context_, parts, joined_); }

 private:
  Context& context_;
  std::vector<std::int64_t> channels_;
  Tensor joined_;
};

}  // namespace frost
