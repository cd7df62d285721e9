#pragma once
#include "kernels/cuda/columns.h"
#include "kernels/math/norm_act.h"
#include "kernels/norm_act.h"

/// What the kernels of batch norm and activation share. Every one is bound by memory: a thread holds its channels'
/// parameters in registers and streams pixels past them, 16 bytes at a time. Sums are joined in an order that depends on
/// shapes and the device's size alone: within a thread, over a block's rows as a tree, over blocks in double. No atomics,
/// the same bits always.
namespace frost::cuda {

template <int width>
struct NormLanes {
  math::NormChannel<float> lane[width];
};

/// `width` values of a channel vector from `first` on; null: `missing`. In fours where the vector is aligned: neighbouring
/// threads are `width` values apart, so that single values would cost as many sectors as the pixels do.
template <int width>
FROST_HD Lanes<width> channel_values(const float* values, std::int64_t first, float missing) {
  Lanes<width> out;
  if (!values) {
    FROST_UNROLL
    for (int j = 0; j < width; ++j) out[j] = missing;
    return out;
  }
  if constexpr (width % 4 == 0) {
    if (reinterpret_cast<std::uintptr_t>(values) % kVectorBytes == 0) {
      FROST_UNROLL
      for (int j = 0; j < width; j += 4) {
        const auto four = load_pack<4>(values + first + j);
        FROST_UNROLL
        for (int k = 0; k < 4; ++k) out[j + k] = four.lane[k];
      }
      return out;
    }
  }
  FROST_UNROLL
  for (int j = 0; j < width; ++j) out[j] = values[first + j];
  return out;
}

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

/// Adds up partial sums over chunks: kernels below give each of 8 channels to 32 threads of a block.
struct ChunkSums {
  static constexpr int kChannels = 8, kGroups = 32, kThreads = kChannels * kGroups, kPhases = 6;
  struct Pair {
    double a, b;
  };
  struct Shared {
    Pair sums[kThreads];
  };
  struct Own {
    Pair sums;
  };
  static std::int64_t blocks(std::int64_t channels) { return (channels + kChannels - 1) / kChannels; }
  FROST_HD static std::int64_t channel(std::int64_t block, int thread) { return block * kChannels + thread % kChannels; }
  FROST_HD static int group(int thread) { return thread / kChannels; }

  /// Over groups: group 0 has the sum at the end of the last phase.
  template <int phase>
  FROST_HD static void join(int thread, Shared& shared, Own& own) {
    join_tree<phase, kPhases>(group(thread), kGroups, kChannels, thread, shared.sums, own.sums, [](Pair& a, const Pair& b) {
      a.a += b.a;
      a.b += b.b;
    });
  }
};

/// use(std::integral_constant<int, width>{}): 16 bytes of channels at a time where the views allow it, else one by one.
template <class T, class Use>
void with_vectors(std::initializer_list<ConstView> views, const Use& use) {
  constexpr int full = kVectorBytes / static_cast<int>(sizeof(T));
  if (vector_width(views) >= full)
    use(std::integral_constant<int, full>{});
  else
    use(std::integral_constant<int, 1>{});
}

// Blocks for each multiprocessor. Sums: as many as it runs at once, since each leaves a partial sum behind; the others: a
// few rounds, which even out the end.
inline constexpr int kSumBlocks = 4, kStreamBlocks = 8;

}  // namespace frost::cuda
