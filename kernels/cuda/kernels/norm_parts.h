#pragma once
#include "kernels/cuda/kernels/channel_tiling.cuh"
#include "kernels/math/norm_act.h"
#include "kernels/norm_act.h"

/// Shared parts of the kernels of batch norm and activation. All are bound by memory: a thread keeps its channels'
/// parameters in registers and reads pixels, 16 bytes at a time. Sums are joined in an order that depends on shapes and the
/// device's size alone: within a thread, over a block's rows as a tree, over blocks in double. No atomics, the same bits
/// always.
namespace frost::cuda {

template <int width>
struct NormLanes {
  math::NormChannel<float> lane[width];
};

/// The parameters of `width` channels from `first` on.
struct NormParameters {
  const float *mean, *rstd, *weight, *bias;  // weight and bias may be null: 1 and 0

  template <int width>
  FROST_HD NormLanes<width> at(std::int64_t first) const {
    const auto m = channel_values<width>(mean, first, 0), r = channel_values<width>(rstd, first, 1);
    const auto w = channel_values<width>(weight, first, 1), b = channel_values<width>(bias, first, 0);
    NormLanes<width> out;
    FROST_UNROLL
    for (int j = 0; j < width; ++j) out.lane[j] = {m[j], r[j], w[j], b[j]};
    return out;
  }
};

// Blocks for each multiprocessor. Sums: as many as it runs at once, since each leaves a partial sum behind; the others: a
// few rounds, which even out the end.
inline constexpr int kSumBlocks = 4, kStreamBlocks = 8;

}  // namespace frost::cuda
