#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/kernels/norm_parts.h"
#include "kernels/dispatch.h"

/// Normalise and activate, over a launcher (kernel_launch.cuh).
namespace frost::cuda {

/// Lower bound: reads x (and the residual) once, writes y once. y may be x or the residual: a thread reads a pixel before it
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

template <class Launcher>
void norm_act_forward(const Launcher& launch, const NormActForward& a) {
  check_same("norm_act", a.x, a.y);
  if (a.residual) check_same("norm_act residual", a.x, a.residual);
  if (a.x.shape.elements() == 0) return;
  const NormParameters parameters{a.mean, a.rstd, a.weight, a.bias};
  with_float(a.x.dtype, "norm_act", [&](auto type) {
    using T = decltype(type);
    with_width<T>({a.x, a.residual, a.y}, Tails::none, [&](auto width_constant) {
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

}  // namespace frost::cuda
