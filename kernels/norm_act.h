#pragma once
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/view.h"

namespace frost {

/// Batch statistics of each channel over all pixels of x, and the moving averages that follow them.
/// rstd = 1 / sqrt(biased variance + eps). Where running_mean is not null: running = (1 - momentum) running + momentum
/// batch, with the unbiased variance, as PyTorch does. Lower bound: x is read once.
struct BatchStatistics {
  ConstView x;
  float eps = 1e-3f, momentum = 0.03f;
  float *mean = nullptr, *rstd = nullptr;                 // (channels), overwritten
  float *running_mean = nullptr, *running_var = nullptr;  // (channels), updated; null: none kept
};

/// Where a residual joins: after the activation (YOLOv5's Bottleneck) or before it (ResNet's blocks).
enum class ResidualOrder : std::uint8_t { after_activation, before_activation };

/// y = activation(z) [+ residual] or activation(z [+ residual]), z = weight * (x - mean) * rstd + bias. Serves training
/// (mean, rstd of the batch), evaluation (of the running statistics), and the recomputation of y in backward.
/// Lower bound: reads x (and residual) once, writes y once.
struct NormActForward {
  ConstView x;
  const float *weight = nullptr, *bias = nullptr, *mean = nullptr, *rstd = nullptr;  // (channels)
  Activation activation;
  ConstView residual;  // same shape as x, or empty
  ResidualOrder order = ResidualOrder::after_activation;
  View y;  // overwritten; may be a channel slice; may be x or the residual itself
};

/// The derivative of NormActForward. The normalised value and the activation's input are rebuilt from x, so that only x,
/// the convolution's output, is kept until backward. Lower bound: reads x and dy twice (channel sums, then dx), writes dx
/// once; with running statistics and no wanted weights, once. A residual after the activation needs no argument: its
/// gradient is dy itself. One before it decides with z what the activation does: it is read again, and its gradient dy *
/// activation'(z + residual), which is also z's, is written to `dresidual` before anything else reads it.
struct NormActBackward {
  ConstView x, dy;
  const float *weight = nullptr, *bias = nullptr, *mean = nullptr, *rstd = nullptr;
  Activation activation;
  bool batch_statistics = true;                // true: mean and rstd depend on x
  ConstView residual = {};                     // the one before the activation, or empty
  View dresidual = {};                         // overwritten; required where there is such a residual; may be dy itself
  View dx;                                     // overwritten; empty: not wanted; may be dy (and dresidual) itself
  float *dweight = nullptr, *dbias = nullptr;  // (channels), added to; null: not wanted
};

}  // namespace frost
