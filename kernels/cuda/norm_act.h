#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/columns.h"
#include "kernels/cuda/value.h"
#include "kernels/dispatch.h"
#include "kernels/math/moments.h"
#include "kernels/math/norm_act.h"
#include "kernels/norm_act.h"

/// Batch norm and activation over a launcher (run.h). Every kernel is bound by memory: a thread holds its channels'
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

template <int width>
struct MomentLanes {
  math::Moments<float> lane[width];
  float count;  // pixels behind them
};

/// Each block's mean and squared distances of each channel, to `partial` (chunks, channels), of x less the first pixel's
/// value: close to the mean, so that f32 keeps its digits where the mean is far from 0. Floor: reads x once.
template <class T, int width>
struct BlockMoments {
  static constexpr int kThreads = cuda::kThreads, kPhases = 9;  // 2^8 rows at most are joined in a block
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
    const int row = columns.row(thread);
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
    } else {  // rows [0, stride) take in rows [stride, 2 stride), which have just been written
      constexpr int stride = kThreads >> phase;
      if (row < stride && row + stride < columns.rows) {
        const MomentLanes<width>& other = shared.moments[thread + stride * columns.columns];
        const float count = own.moments.count, share = other.count > 0 ? other.count / (count + other.count) : 0.0f;
        FROST_UNROLL
        for (int j = 0; j < width; ++j) own.moments.lane[j] = math::merged(own.moments.lane[j], count, other.lane[j], share);
        own.moments.count = count + other.count;
      }
    }
    if constexpr (phase + 1 < kPhases) {
      // Who is read in the next phase: nobody else writes there meanwhile, and a row is written once.
      constexpr int next = kThreads >> (phase + 1);
      if (row >= next && row < 2 * next) shared.moments[thread] = own.moments;
    } else if (row == 0) {
      const std::int64_t channels = std::int64_t{columns.items} * width;
      math::Moments<float>* to =
          partial + columns.chunk_of(block) * channels + std::int64_t{columns.item(block, thread)} * width;
      FROST_UNROLL
      for (int j = 0; j < width; ++j) to[j] = own.moments.lane[j];
    }
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

  /// The tree over groups, phases 1 to 5: group 0 has the sum at the end of the last one.
  template <int phase>
  FROST_HD static void join(int thread, Shared& shared, Own& own) {
    constexpr int stride = kGroups >> phase;
    if constexpr (phase > 0) {
      if (group(thread) < stride) {
        const Pair& other = shared.sums[thread + stride * kChannels];
        own.sums.a += other.a;
        own.sums.b += other.b;
      }
    }
    if constexpr (phase + 1 < kPhases) {
      if (group(thread) >= stride / 2 && group(thread) < stride) shared.sums[thread] = own.sums;
    }
  }
};

/// mean and rstd of the whole map from its chunks' moments, and the running averages.
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
      rstd[c] = static_cast<float>(math::reciprocal_deviation<double>(variance, eps));
      if (!running_mean) return;
      running_mean[c] = static_cast<float>(math::moving_average<double>(running_mean[c], centre, momentum));
      running_var[c] =
          static_cast<float>(math::moving_average<double>(running_var[c], math::unbiased(variance, n), momentum));
    }
  }
};

/// Floor: reads x (and the residual) once, writes y once. y may be x or the residual: a thread reads a pixel before it
/// writes it.
template <class T, int width, ActivationKind kind, bool residual>
struct NormActY {
  static constexpr int kThreads = cuda::kThreads, kPhases = 1;
  struct Shared {};
  struct Own {};

  const T *x, *shortcut;
  T* y;
  std::int64_t x_pitch, shortcut_pitch, y_pitch;
  NormParameters parameters;
  ResidualOrder order;
  float slope;
  Columns columns;

  struct Values {
    Pack<T, width> x, shortcut;
  };

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared&, Own&) const {
    if (!columns.works(block, thread)) return;
    const std::int64_t first = std::int64_t{columns.item(block, thread)} * width;
    const auto channel = parameters.at<width>(first);
    const auto read = [&](std::int64_t pixel) {
      Values v{};
      v.x = load_pack<width>(x + pixel * x_pitch + first);
      if constexpr (residual) v.shortcut = load_pack<width>(shortcut + pixel * shortcut_pitch + first);
      return v;
    };
    const auto write = [&](std::int64_t pixel, const Values& v) {
      Lanes<width> out;
      FROST_UNROLL
      for (int j = 0; j < width; ++j) {
        const float in = math::to_float(v.x.lane[j]);
        if constexpr (residual) {
          const float other = math::to_float(v.shortcut.lane[j]);
          out[j] = order == ResidualOrder::before_activation ? math::norm_add_act<kind>(in, other, channel.lane[j], slope)
                                                             : math::norm_act<kind>(in, channel.lane[j], slope) + other;
        } else {
          out[j] = math::norm_act<kind>(in, channel.lane[j], slope);
        }
      }
      store(y + pixel * y_pitch + first, out);
    };
    walk_pixels<residual ? 2 : 4>(columns, block, thread, read, write);
  }
};

/// dresidual = dy * activation'(z + residual). Floor: reads x, dy and the residual once, writes dresidual once.
template <class T, int width, ActivationKind kind>
struct ResidualGradient {
  static constexpr int kThreads = cuda::kThreads, kPhases = 1;
  struct Shared {};
  struct Own {};

  const T *x, *shortcut, *dy;
  T* dz;
  std::int64_t x_pitch, shortcut_pitch, dy_pitch, dz_pitch;
  NormParameters parameters;
  float slope;
  Columns columns;

  struct Values {
    Pack<T, width> x, shortcut, dy;
  };

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared&, Own&) const {
    if (!columns.works(block, thread)) return;
    const std::int64_t first = std::int64_t{columns.item(block, thread)} * width;
    const auto channel = parameters.at<width>(first);
    const auto read = [&](std::int64_t pixel) {
      return Values{load_pack<width>(x + pixel * x_pitch + first),
                    load_pack<width>(shortcut + pixel * shortcut_pitch + first),
                    load_pack<width>(dy + pixel * dy_pitch + first)};
    };
    const auto write = [&](std::int64_t pixel, const Values& v) {
      Lanes<width> out;
      FROST_UNROLL
      for (int j = 0; j < width; ++j)
        out[j] = math::norm_add_act_grad<kind>(math::to_float(v.x.lane[j]), math::to_float(v.shortcut.lane[j]),
                                               math::to_float(v.dy.lane[j]), channel.lane[j], slope);
      store(dz + pixel * dz_pitch + first, out);
    };
    walk_pixels<2>(columns, block, thread, read, write);
  }
};

/// Each block's sums of dz and of dz * xhat, to `partial` (chunks, 2, channels). Floor: reads x and dy once.
template <class T, int width, ActivationKind kind>
struct BlockGradientSums {
  static constexpr int kThreads = cuda::kThreads, kPhases = 9;
  struct Sums {
    Lanes<width> dz, dz_xhat;
  };
  struct Shared {
    Sums sums[kThreads];
  };
  struct Own {
    Sums sums;
  };

  const T *x, *dy;
  std::int64_t x_pitch, dy_pitch;
  NormParameters parameters;
  float slope;
  float* partial;
  Columns columns;

  struct Values {
    Pack<T, width> x, dy;
  };

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    if (!columns.works(block, thread)) return;
    const int row = columns.row(thread);
    const std::int64_t first = std::int64_t{columns.item(block, thread)} * width;
    if constexpr (phase == 0) {
      const auto channel = parameters.at<width>(first);
      const auto read = [&](std::int64_t pixel) {
        return Values{load_pack<width>(x + pixel * x_pitch + first), load_pack<width>(dy + pixel * dy_pitch + first)};
      };
      const auto add = [&](std::int64_t, const Values& v) {
        FROST_UNROLL
        for (int j = 0; j < width; ++j) {
          const auto g =
              math::norm_act_grad<kind>(math::to_float(v.x.lane[j]), math::to_float(v.dy.lane[j]), channel.lane[j], slope);
          own.sums.dz[j] += g.dz;
          own.sums.dz_xhat[j] += g.dz * g.xhat;
        }
      };
      walk_pixels<2>(columns, block, thread, read, add);
    } else {
      constexpr int stride = kThreads >> phase;
      if (row < stride && row + stride < columns.rows) {
        const Sums& other = shared.sums[thread + stride * columns.columns];
        FROST_UNROLL
        for (int j = 0; j < width; ++j) {
          own.sums.dz[j] += other.dz[j];
          own.sums.dz_xhat[j] += other.dz_xhat[j];
        }
      }
    }
    if constexpr (phase + 1 < kPhases) {
      constexpr int next = kThreads >> (phase + 1);
      if (row >= next && row < 2 * next) shared.sums[thread] = own.sums;
    } else if (row == 0) {
      const std::int64_t channels = std::int64_t{columns.items} * width;
      float* to = partial + columns.chunk_of(block) * 2 * channels + first;
      FROST_UNROLL
      for (int j = 0; j < width; ++j) {
        to[j] = own.sums.dz[j];
        to[channels + j] = own.sums.dz_xhat[j];
      }
    }
  }
};

/// The channels' sums: added to dbias and dweight, and divided by the number of pixels for dx.
struct FinishGradient : ChunkSums {
  const float* partial;  // (chunks, 2, channels)
  std::int64_t chunks, channels, pixels;
  float *dweight, *dbias, *mean_dz, *mean_dz_xhat;  // each may be null

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    const std::int64_t c = channel(block, thread);
    if (c >= channels) return;
    if constexpr (phase == 0) {
      for (std::int64_t i = group(thread); i < chunks; i += kGroups) {
        own.sums.a += static_cast<double>(partial[2 * i * channels + c]);
        own.sums.b += static_cast<double>(partial[(2 * i + 1) * channels + c]);
      }
    }
    join<phase>(thread, shared, own);
    if constexpr (phase + 1 == kPhases) {
      if (group(thread) > 0) return;
      const double inverse = 1.0 / static_cast<double>(pixels);
      if (dbias) dbias[c] += static_cast<float>(own.sums.a);
      if (dweight) dweight[c] += static_cast<float>(own.sums.b);
      if (mean_dz) mean_dz[c] = static_cast<float>(own.sums.a * inverse);
      if (mean_dz_xhat) mean_dz_xhat[c] = static_cast<float>(own.sums.b * inverse);
    }
  }
};

/// Floor: reads x and dy once, writes dx once. dx may be dy.
template <class T, int width, ActivationKind kind>
struct NormActDx {
  static constexpr int kThreads = cuda::kThreads, kPhases = 1;
  struct Shared {};
  struct Own {};

  const T *x, *dy;
  T* dx;
  std::int64_t x_pitch, dy_pitch, dx_pitch;
  NormParameters parameters;
  const float *mean_dz, *mean_dz_xhat;  // (channels); null: running statistics, both 0
  float slope;
  Columns columns;

  struct Values {
    Pack<T, width> x, dy;
  };

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared&, Own&) const {
    if (!columns.works(block, thread)) return;
    const std::int64_t first = std::int64_t{columns.item(block, thread)} * width;
    const auto channel = parameters.at<width>(first);
    const auto dz_mean = channel_values<width>(mean_dz, first, 0);
    const auto dz_xhat_mean = channel_values<width>(mean_dz_xhat, first, 0);
    const auto read = [&](std::int64_t pixel) {
      return Values{load_pack<width>(x + pixel * x_pitch + first), load_pack<width>(dy + pixel * dy_pitch + first)};
    };
    const auto write = [&](std::int64_t pixel, const Values& v) {
      Lanes<width> out;
      FROST_UNROLL
      for (int j = 0; j < width; ++j) {
        const auto g =
            math::norm_act_grad<kind>(math::to_float(v.x.lane[j]), math::to_float(v.dy.lane[j]), channel.lane[j], slope);
        out[j] = math::norm_dx(g, dz_mean[j], dz_xhat_mean[j], channel.lane[j]);
      }
      store(dx + pixel * dx_pitch + first, out);
    };
    walk_pixels<2>(columns, block, thread, read, write);
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

template <class Launcher>
void batch_statistics(const Launcher& launch, const BatchStatistics& a) {
  const std::int64_t channels = a.x.shape.c, count = a.x.shape.pixels();
  FROST_CHECK(count > 0, "batch norm: x of shape ", a.x.shape, " has no pixels");
  FROST_CHECK(count > 1 || !a.running_var, "batch norm: training needs more than one value for each channel, x is ",
              a.x.shape);
  if (channels == 0) return;
  with_float(a.x.dtype, "batch norm", [&](auto type) {
    using T = decltype(type);
    with_vectors<T>({a.x}, [&](auto width_constant) {
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

template <class Launcher>
void norm_act_forward(const Launcher& launch, const NormActForward& a) {
  check_same("norm_act", a.x, a.y);
  if (a.residual) check_same("norm_act residual", a.x, a.residual);
  if (a.x.shape.elements() == 0) return;
  const NormParameters parameters{a.mean, a.rstd, a.weight, a.bias};
  with_float(a.x.dtype, "norm_act", [&](auto type) {
    using T = decltype(type);
    with_vectors<T>({a.x, a.residual, a.y}, [&](auto width_constant) {
      constexpr int width = width_constant();
      const Columns columns = columns_of(a.x.shape, width, std::int64_t{launch.multiprocessors()} * kStreamBlocks, 4);
      with_activation(a.activation.kind, [&](auto kind_constant) {
        constexpr ActivationKind kind = kind_constant();
        const auto run = [&](auto residual_constant) {
          constexpr bool residual = residual_constant();
          launch.blocks(columns.blocks(), NormActY<T, width, kind, residual>{
                                              a.x.as<T>(), a.residual.as<T>(), a.y.as<T>(), a.x.pitch, a.residual.pitch,
                                              a.y.pitch, parameters, a.order, a.activation.slope, columns});
        };
        if (a.residual)
          run(std::true_type{});
        else
          run(std::false_type{});
      });
    });
  });
}

template <class Launcher>
void norm_act_backward(const Launcher& launch, const NormActBackward& a) {
  check_same("norm_act backward", a.x, a.dy);
  if (a.dx) check_same("norm_act backward", a.x, a.dx);
  if (a.x.shape.elements() == 0) return;
  const std::int64_t channels = a.x.shape.c, multiprocessors = launch.multiprocessors();
  const NormParameters parameters{a.mean, a.rstd, a.weight, a.bias};
  if (a.residual) {  // afterwards it is the backward of the norm alone, from dz
    check_same("norm_act backward", a.x, a.residual);
    check_same("norm_act backward", a.x, a.dresidual);
    with_float(a.x.dtype, "norm_act backward", [&](auto type) {
      using T = decltype(type);
      with_vectors<T>({a.x, a.residual, a.dy, a.dresidual}, [&](auto width_constant) {
        constexpr int width = width_constant();
        const Columns columns = columns_of(a.x.shape, width, multiprocessors * kStreamBlocks, 2);
        with_activation(a.activation.kind, [&](auto kind_constant) {
          constexpr ActivationKind kind = kind_constant();
          launch.blocks(columns.blocks(),
                        ResidualGradient<T, width, kind>{a.x.as<T>(), a.residual.as<T>(), a.dy.as<T>(), a.dresidual.as<T>(),
                                                         a.x.pitch, a.residual.pitch, a.dy.pitch, a.dresidual.pitch,
                                                         parameters, a.activation.slope, columns});
        });
      });
    });
    NormActBackward norm = a;
    norm.dy = a.dresidual, norm.activation = {}, norm.residual = {}, norm.dresidual = {};
    return norm_act_backward(launch, norm);
  }

  const bool means = a.batch_statistics && a.dx;
  with_float(a.x.dtype, "norm_act backward", [&](auto type) {
    using T = decltype(type);
    with_vectors<T>({a.x, a.dy, a.dx}, [&](auto width_constant) {
      constexpr int width = width_constant();
      with_activation(a.activation.kind, [&](auto kind_constant) {
        constexpr ActivationKind kind = kind_constant();
        float *mean_dz = nullptr, *mean_dz_xhat = nullptr;
        if (a.dweight || a.dbias || means) {
          const Columns columns = columns_of(a.x.shape, width, multiprocessors * kSumBlocks, 2);
          const std::int64_t partials = (2 * columns.chunks * channels + 3) / 4 * 4, aligned = (channels + 3) / 4 * 4;
          auto* scratch =
              static_cast<float*>(launch.scratch(static_cast<std::size_t>(partials + 2 * aligned) * sizeof(float)));
          if (means) mean_dz = scratch + partials, mean_dz_xhat = mean_dz + aligned;
          launch.blocks(columns.blocks(),
                        BlockGradientSums<T, width, kind>{a.x.as<T>(), a.dy.as<T>(), a.x.pitch, a.dy.pitch, parameters,
                                                          a.activation.slope, scratch, columns});
          launch.blocks(
              ChunkSums::blocks(channels),
              FinishGradient{
                  {}, scratch, columns.chunks, channels, columns.pixels, a.dweight, a.dbias, mean_dz, mean_dz_xhat});
        }
        if (!a.dx) return;
        const Columns columns = columns_of(a.x.shape, width, multiprocessors * kStreamBlocks, 2);
        launch.blocks(columns.blocks(),
                      NormActDx<T, width, kind>{a.x.as<T>(), a.dy.as<T>(), a.dx.as<T>(), a.x.pitch, a.dy.pitch, a.dx.pitch,
                                                parameters, mean_dz, mean_dz_xhat, a.activation.slope, columns});
      });
    });
  });
}

}  // namespace frost::cuda
