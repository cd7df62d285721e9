#pragma once
#include "kernels/cuda/kernels/norm_parts.h"
#include "kernels/cuda/kernels/scalar_access.cuh"
#include "kernels/dispatch.h"
#include "kernels/math/moments.h"

/// Batch statistics over a launcher (kernel_launch.cuh).
namespace frost::cuda {

template <int width>
struct MomentLanes {
  math::Moments<float> lane[width];
  float count;  // pixels behind them
};

/// Each block's mean and squared distances of each channel, to `partial` (chunks, channels), of x less the first pixel's
/// value: close to the mean, so that f32 keeps its digits where the mean is far from 0. Lower bound: reads x once.
template <class T, int width>
struct BlockMoments {
  static constexpr int kThreads = cuda::kThreads, kPhases = Columns::kJoinPhases;
  struct Shared {
    MomentLanes<width> moments[kThreads];
  };
  struct Own {
    MomentLanes<width> moments;
  };

  const T* x;
  std::int64_t pitch;
  math::Moments<float>* partial;
  Columns columns;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    if (!columns.works(block, thread)) return;
    if constexpr (phase == 0) {
      const T* from = x + std::int64_t{columns.item(block, thread)} * width;
      const auto pivot = load<width>(from);
      walk_pixels<4>(
          columns, block, thread, [&](std::int64_t pixel) { return load_pack<width>(from + pixel * pitch); },
          [&](std::int64_t, const Pack<T, width>& pack) {
            own.moments.count += 1;
            const float inverse = 1 / own.moments.count;
            FROST_UNROLL
            for (int j = 0; j < width; ++j)
              math::take(own.moments.lane[j], math::to_float(pack.lane[j]) - pivot[j], inverse);
          });
    }
    columns.join_rows<phase>(thread, shared.moments, own.moments, [](MomentLanes<width>& a, const auto& b) {
      const float share = b.count > 0 ? b.count / (a.count + b.count) : 0.0f;
      FROST_UNROLL
      for (int j = 0; j < width; ++j) a.lane[j] = math::merged(a.lane[j], a.count, b.lane[j], share);
      a.count += b.count;
    });
    if (phase + 1 == kPhases && columns.row(thread) == 0) {
      const std::int64_t channels = std::int64_t{columns.items} * width;
      math::Moments<float>* to =
          partial + columns.chunk_of(block) * channels + std::int64_t{columns.item(block, thread)} * width;
      Pack<math::Moments<float>, width> pack;
      FROST_UNROLL
      for (int j = 0; j < width; ++j) pack.lane[j] = own.moments.lane[j];
      store_pack(to, pack);
    }
  }
};

/// mean and rstd of the whole map from its chunks' moments, and the running averages. Lower bound: reads the chunks' moments
/// once.
struct FinishStatistics : ChunkSums {
  const math::Moments<float>* partial;  // (chunks, channels)
  const void* x;                        // its first pixel is what the partial means count from
  DType type;
  Columns columns;
  std::int64_t channels;
  float eps, momentum;
  float *mean, *rstd, *running_mean, *running_var;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    const std::int64_t c = channel(block, thread);
    if (c >= channels) return;
    if constexpr (phase == 0) {
      for (std::int64_t i = group(thread); i < columns.chunks; i += kGroups) {  // in double nothing cancels that matters
        const math::Moments<float> m = partial[i * channels + c];
        const double count = static_cast<double>(columns.pixels_of_chunk(i)), centre = m.mean;
        own.sums.a += count * centre;
        own.sums.b += static_cast<double>(m.squares) + count * centre * centre;
      }
    }
    join<phase>(thread, shared, own);
    if constexpr (phase + 1 == kPhases) {
      if (group(thread) > 0) return;
      const double n = static_cast<double>(columns.pixels), shifted = own.sums.a / n;
      const double centre = static_cast<double>(load_value(x, type, c)) + shifted;
      const double spread = own.sums.b / n - shifted * shifted, variance = spread < 0 ? 0 : spread;  // NaN stays NaN
      mean[c] = static_cast<float>(centre);
      rstd[c] = static_cast<float>(math::reciprocal_std<double>(variance, eps));
      if (!running_mean) return;
      running_mean[c] = static_cast<float>(math::moving_average<double>(running_mean[c], centre, momentum));
      running_var[c] =
          static_cast<float>(math::moving_average<double>(running_var[c], math::unbiased(variance, n), momentum));
    }
  }
};

template <class Launcher>
void batch_statistics(const Launcher& launch, const BatchStatistics& a) {
  const std::int64_t channels = a.x.shape.c, count = a.x.shape.pixels();
  FROST_CHECK(count > 0, "batch norm: x of shape ", a.x.shape, " has no pixels");
  FROST_CHECK(count > 1 || !a.running_var, "batch norm: training needs more than one value for each channel, x is ",
              a.x.shape);
  if (channels == 0) return;
  with_float(a.x.dtype, "batch norm", [&](auto type) {
    using T = decltype(type);
    with_width<T>({a.x}, Tails::none, [&](auto width_constant) {
      constexpr int width = width_constant();
      const Columns columns = columns_of(a.x.shape, width, std::int64_t{launch.multiprocessors()} * kSumBlocks, 4);
      auto* partial = static_cast<math::Moments<float>*>(
          launch.scratch(static_cast<std::size_t>(columns.chunks * channels) * sizeof(math::Moments<float>)));
      launch.blocks(columns.blocks(), BlockMoments<T, width>{a.x.as<T>(), a.x.pitch, partial, columns});
      launch.blocks(ChunkSums::blocks(channels), FinishStatistics{{},
                                                                  partial,
                                                                  a.x.data,
                                                                  a.x.dtype,
                                                                  columns,
                                                                  channels,
                                                                  a.eps,
                                                                  a.momentum,
                                                                  a.mean,
                                                                  a.rstd,
                                                                  a.running_mean,
                                                                  a.running_var});
    });
  });
}

}  // namespace frost::cuda
