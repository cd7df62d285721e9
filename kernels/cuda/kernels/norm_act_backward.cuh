#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/kernels/norm_parts.h"
#include "kernels/dispatch.h"

/// The derivative of norm and activation, over a launcher (kernel_launch.cuh).
namespace frost::cuda {

/// dresidual = dy * activation'(z + residual). Lower bound: reads x, dy and the residual once, writes dresidual once.
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

/// Each block's sums of dz and of dz * xhat, to `partial` (chunks, 2, channels). Lower bound: reads x and dy once.
template <class T, int width, ActivationKind kind>
struct BlockGradientSums {
  static constexpr int kThreads = cuda::kThreads, kPhases = Columns::kJoinPhases;
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
    }
    columns.join_rows<phase>(thread, shared.sums, own.sums, [](Sums& a, const Sums& b) {
      FROST_UNROLL
      for (int j = 0; j < width; ++j) {
        a.dz[j] += b.dz[j];
        a.dz_xhat[j] += b.dz_xhat[j];
      }
    });
    if (phase + 1 == kPhases && columns.row(thread) == 0) {
      const std::int64_t channels = std::int64_t{columns.items} * width;
      float* to = partial + columns.chunk_of(block) * 2 * channels + first;
      store(to, own.sums.dz);
      store(to + channels, own.sums.dz_xhat);
    }
  }
};

/// The channels' sums: added to dbias and dweight, and divided by the number of pixels for dx. Lower bound: reads the
/// chunks' sums once.
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

/// Lower bound: reads x and dy once, writes dx once. dx may be dy.
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
      with_width<T>({a.x, a.residual, a.dy, a.dresidual}, Tails::none, [&](auto width_constant) {
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
    with_width<T>({a.x, a.dy, a.dx}, Tails::none, [&](auto width_constant) {
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
