#pragma once
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/view.h"

namespace frost {

/// Batch statistics of each channel over all pixels of x, and the moving averages that follow them.
/// rstd = 1 / sqrt(biased variance + eps). Where running_mean is not null: running = (1 - momentum) running + momentum
/// batch, with the unbiased variance, as PyTorch does. Floor: x is read once.
struct BatchStatistics {
  ConstView x;
  float eps = 1e-3f, momentum = 0.03f;
  float *mean = nullptr, *rstd = nullptr;                 // (channels), overwritten
  float *running_mean = nullptr, *running_var = nullptr;  // (channels), updated; null: none kept
};

/// y = activation(weight * (x - mean) * rstd + bias) [+ residual]. Serves training (mean, rstd of the batch), evaluation
/// (of the running statistics), and the recomputation of y in backward. Floor: reads x (and residual) once, writes y once.
struct NormActForward {
  ConstView x;
  const float *weight = nullptr, *bias = nullptr, *mean = nullptr, *rstd = nullptr;  // (channels)
  Activation activation;
  ConstView residual;  // same shape as x, or empty
  View y;              // overwritten; may be a channel slice; may be x itself
};

/// The derivative of NormActForward. The normalised value and the activation's input are rebuilt from x, so that x, the
/// convolution's output, is all that stays alive until backward. The residual's gradient is dy itself.
/// Floor: reads x and dy twice (channel sums, then dx), writes dx once; with running statistics and no wanted weights, once.
struct NormActBackward {
  ConstView x, dy;
  const float *weight = nullptr, *bias = nullptr, *mean = nullptr, *rstd = nullptr;
  Activation activation;
  bool batch_statistics = true;                // true: mean and rstd depend on x
  View dx;                                     // overwritten; empty: not wanted; may be dy itself
  float *dweight = nullptr, *dbias = nullptr;  // (channels), added to; null: not wanted
};

}  // namespace frost
