#include "kernels/norm_act.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/math/norm_act.h"

namespace frost::cpu {
namespace {

constexpr std::int64_t kRowWidth = 256;  // values: 16 AVX-512 vectors, and its parameters and sums stay in L1

/// The channels' parameters, repeated over a row.
class NormTable {
 public:
  NormTable(const float* mean, const float* rstd, const float* weight, const float* bias, std::int64_t channels,
            std::int64_t width)
      : width_(width), values_(static_cast<std::size_t>(4 * width)) {
    repeat(mean, 0, channels, width, values_.data());
    repeat(rstd, 1, channels, width, values_.data() + width);
    repeat(weight, 1, channels, width, values_.data() + 2 * width);
    repeat(bias, 0, channels, width, values_.data() + 3 * width);
  }
  struct Rowwise {  // copied into the loops: plain pointers, so that the compiler need not read them again
    const float *mean, *rstd, *weight, *bias;
    FROST_HD math::NormChannel<float> operator[](std::int64_t j) const { return {mean[j], rstd[j], weight[j], bias[j]}; }
  };
  Rowwise row() const {
    const float* v = values_.data();
    return {v, v + width_, v + 2 * width_, v + 3 * width_};
  }

 private:
  std::int64_t width_;
  std::vector<float> values_;
};

/// Reads rows four at a time while they are full, which quarters the traffic of the sums that stay in L1.
template <class Block>
FROST_HD void in_fours(const Rows& rows, std::int64_t first, std::int64_t last, const Block& block) {
  std::int64_t r = first;
  for (const std::int64_t full = std::min(last, rows.full()); r + 4 <= full; r += 4)
    block(std::integer_sequence<int, 0, 1, 2, 3>{}, r, rows.width);
  for (; r < last; ++r) block(std::integer_sequence<int, 0>{}, r, rows.width_of(r));
}

template <class T>
std::vector<double> sums_and_squares(const BatchStatistics& a, const Rows& rows) {
  // In double throughout: the variance is a small difference of large sums where the mean is far from 0.
  const auto add_rows = [&](std::int64_t first, std::int64_t last, double* sums) FROST_LOOP {
    const std::int64_t step = rows.pixels_each * a.x.pitch;
    double* squares = sums + rows.width;
    const auto block = [&]<int... k>(std::integer_sequence<int, k...>, std::int64_t r, std::int64_t width) FROST_LOOP {
      const T* x = a.x.as<T>() + r * step;
      for_lanes(width, [=](std::int64_t j) FROST_LOOP {
        double sum = 0, square = 0;
        const auto add = [&](double v) FROST_LOOP { sum += v, square += v * v; };
        (add(to_float(x[k * step + j])), ...);
        sums[j] += sum;
        squares[j] += square;
      });
    };
    in_fours(rows, first, last, block);
  };
  return column_sums(rows.count, rows.grain(), 2 * rows.width, add_rows);
}

enum class Residual { none, after, before };

template <class T, ActivationKind kind, Residual residual>
void forward(const NormActForward& a, const Rows& rows, const NormTable& table) {
  simd_ranges(rows.count, rows.grain(), [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    const auto channel = table.row();
    const float slope = a.activation.slope;
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t pixel = r * rows.pixels_each, width = rows.width_of(r);
      const T* x = a.x.as<T>() + pixel * a.x.pitch;
      [[maybe_unused]] const T* shortcut =
          residual == Residual::none ? nullptr : a.residual.as<T>() + pixel * a.residual.pitch;
      T* y = a.y.as<T>() + pixel * a.y.pitch;
      for_lanes(width, [=](std::int64_t j) FROST_LOOP {
        float value;
        if constexpr (residual == Residual::before)
          value = math::norm_add_act<kind>(to_float(x[j]), to_float(shortcut[j]), channel[j], slope);
        else
          value = math::norm_act<kind>(to_float(x[j]), channel[j], slope);
        if constexpr (residual == Residual::after) value += to_float(shortcut[j]);
        y[j] = from_float<T>(value);
      });
    }
  });
}

/// dresidual = dy * activation'(z + residual).
template <class T, ActivationKind kind>
void gradient_residual(const NormActBackward& a, const Rows& rows, const NormTable& table) {
  simd_ranges(rows.count, rows.grain(), [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    const auto channel = table.row();
    const float slope = a.activation.slope;
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t pixel = r * rows.pixels_each, width = rows.width_of(r);
      const T* x = a.x.as<T>() + pixel * a.x.pitch;
      const T* shortcut = a.residual.as<T>() + pixel * a.residual.pitch;
      const T* dy = a.dy.as<T>() + pixel * a.dy.pitch;
      T* dz = a.dresidual.as<T>() + pixel * a.dresidual.pitch;
      for_lanes(width, [=](std::int64_t j) FROST_LOOP {
        dz[j] = from_float<T>(
            math::norm_add_act_grad<kind>(to_float(x[j]), to_float(shortcut[j]), to_float(dy[j]), channel[j], slope));
      });
    }
  });
}

/// Sums of dz, then of dz * xhat, for each column of a row. Four rows are added in f32 before they enter the double sum.
template <class T, ActivationKind kind>
std::vector<double> gradient_sums(const NormActBackward& a, const Rows& rows, const NormTable& table) {
  const auto add_rows = [&](std::int64_t first, std::int64_t last, double* sums) FROST_LOOP {
    const auto channel = table.row();
    const float slope = a.activation.slope;
    const std::int64_t x_step = rows.pixels_each * a.x.pitch, dy_step = rows.pixels_each * a.dy.pitch;
    double* products = sums + rows.width;
    const auto block = [&]<int... k>(std::integer_sequence<int, k...>, std::int64_t r, std::int64_t width) FROST_LOOP {
      const T* x = a.x.as<T>() + r * x_step;
      const T* dy = a.dy.as<T>() + r * dy_step;
      for_lanes(width, [=](std::int64_t j) FROST_LOOP {
        const auto c = channel[j];
        float sum = 0, product = 0;
        const auto add = [&](float xv, float dyv) FROST_LOOP {
          const auto g = math::norm_act_grad<kind>(xv, dyv, c, slope);
          sum += g.dz, product += g.dz * g.xhat;
        };
        (add(to_float(x[k * x_step + j]), to_float(dy[k * dy_step + j])), ...);
        sums[j] += sum;
        products[j] += product;
      });
    };
    in_fours(rows, first, last, block);
  };
  return column_sums(rows.count, rows.grain(), 2 * rows.width, add_rows);
}

/// The sigmoid is computed a second time here. Keeping dz in dx between the passes was measured (AVX-512, tensors in a 260
/// MB cache, one thread): 10 to 15 % faster there, at one more write of the tensor, rounded in bf16; not worth it where
/// memory is the limit.
template <class T, ActivationKind kind>
void gradient_x(const NormActBackward& a, const Rows& rows, const NormTable& table, const float* mean_dz,
                const float* mean_dz_xhat) {
  simd_ranges(rows.count, rows.grain(), [&, mean_dz, mean_dz_xhat](std::int64_t first, std::int64_t last) FROST_LOOP {
    const auto channel = table.row();
    const float slope = a.activation.slope;
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t pixel = r * rows.pixels_each, width = rows.width_of(r);
      const T* x = a.x.as<T>() + pixel * a.x.pitch;
      const T* dy = a.dy.as<T>() + pixel * a.dy.pitch;
      T* dx = a.dx.as<T>() + pixel * a.dx.pitch;
      for_lanes(width, [=](std::int64_t j) FROST_LOOP {
        const auto c = channel[j];
        const auto g = math::norm_act_grad<kind>(to_float(x[j]), to_float(dy[j]), c, slope);
        dx[j] = from_float<T>(math::norm_dx(g, mean_dz[j], mean_dz_xhat[j], c));
      });
    }
  });
}

/// Columns of a row belong to channel j % channels: one sum for each channel.
std::vector<double> fold(const double* columns, std::int64_t width, std::int64_t channels) {
  std::vector<double> sums(static_cast<std::size_t>(channels), 0.0);
  for (std::int64_t j = 0; j < width; ++j) sums[static_cast<std::size_t>(j % channels)] += columns[j];
  return sums;
}

}  // namespace

void CpuBackend::batch_statistics(const BatchStatistics& a) {
  const std::int64_t channels = a.x.shape.c, count = a.x.shape.pixels();
  FROST_CHECK(count > 0, "batch norm: x of shape ", a.x.shape, " has no pixels");
  FROST_CHECK(count > 1 || !a.running_var, "batch norm: training needs more than one value for each channel, x is ",
              a.x.shape);
  const Rows rows(a.x.shape, a.x.packed(), kRowWidth);
  with_type(a.x.dtype, "batch norm", [&](auto type) {
    const auto columns = sums_and_squares<decltype(type)>(a, rows);
    const auto sums = fold(columns.data(), rows.width, channels);
    const auto squares = fold(columns.data() + rows.width, rows.width, channels);
    const double n = static_cast<double>(count);
    for (std::int64_t c = 0; c < channels; ++c) {
      const double mean = sums[static_cast<std::size_t>(c)] / n;
      const double spread = squares[static_cast<std::size_t>(c)] / n - mean * mean;
      const double variance = spread < 0 ? 0 : spread;  // rounding; NaN stays NaN
      a.mean[c] = static_cast<float>(mean);
      a.rstd[c] = static_cast<float>(math::reciprocal_std<double>(variance, a.eps));
      if (!a.running_mean) continue;
      const auto follow = [&](float& old, double now) {
        old = static_cast<float>(math::moving_average<double>(old, now, a.momentum));
      };
      follow(a.running_mean[c], mean);
      follow(a.running_var[c], math::unbiased(variance, n));
    }
  });
}

void CpuBackend::norm_act_forward(const NormActForward& a) {
  check_same("norm_act", a.x, a.y);
  if (a.residual) check_same("norm_act residual", a.x, a.residual);
  const bool packed = a.x.packed() && a.y.packed() && (!a.residual || a.residual.packed());
  const Rows rows(a.x.shape, packed, kRowWidth);
  const NormTable table(a.mean, a.rstd, a.weight, a.bias, a.x.shape.c, rows.width);
  with_type(a.x.dtype, "norm_act", [&](auto type) {
    with_activation(a.activation.kind, [&](auto kind) {
      if (!a.residual)
        forward<decltype(type), kind(), Residual::none>(a, rows, table);
      else if (a.order == ResidualOrder::after_activation)
        forward<decltype(type), kind(), Residual::after>(a, rows, table);
      else
        forward<decltype(type), kind(), Residual::before>(a, rows, table);
    });
  });
}

void CpuBackend::norm_act_backward(const NormActBackward& a) {
  check_same("norm_act backward", a.x, a.dy);
  if (a.dx) check_same("norm_act backward", a.x, a.dx);
  const std::int64_t channels = a.x.shape.c;
  if (a.residual) {  // afterwards it is the backward of the norm alone, from dz
    check_same("norm_act backward", a.x, a.residual);
    check_same("norm_act backward", a.x, a.dresidual);
    const Rows rows(a.x.shape, a.x.packed() && a.dy.packed() && a.residual.packed() && a.dresidual.packed(), kRowWidth);
    const NormTable table(a.mean, a.rstd, a.weight, a.bias, channels, rows.width);
    with_type(a.x.dtype, "norm_act backward", [&](auto type) {
      with_activation(a.activation.kind, [&](auto kind) { gradient_residual<decltype(type), kind()>(a, rows, table); });
    });
    NormActBackward norm = a;
    norm.dy = a.dresidual, norm.activation = {}, norm.residual = {}, norm.dresidual = {};
    return norm_act_backward(norm);
  }
  const bool packed = a.x.packed() && a.dy.packed() && (!a.dx || a.dx.packed());
  const Rows rows(a.x.shape, packed, kRowWidth);
  const NormTable table(a.mean, a.rstd, a.weight, a.bias, channels, rows.width);
  std::vector<float> mean_dz(static_cast<std::size_t>(rows.width), 0.0f), mean_dz_xhat = mean_dz;
  with_type(a.x.dtype, "norm_act backward", [&](auto type) {
    with_activation(a.activation.kind, [&](auto kind) {
      if (a.dweight || a.dbias || (a.batch_statistics && a.dx)) {
        const auto columns = gradient_sums<decltype(type), kind()>(a, rows, table);
        const auto dz = fold(columns.data(), rows.width, channels);
        const auto dz_xhat = fold(columns.data() + rows.width, rows.width, channels);
        for (std::size_t c = 0; c < dz.size(); ++c) {
          if (a.dbias) a.dbias[c] += static_cast<float>(dz[c]);
          if (a.dweight) a.dweight[c] += static_cast<float>(dz_xhat[c]);
        }
        const double inverse_count = 1.0 / static_cast<double>(a.x.shape.pixels());
        for (std::size_t j = 0; a.batch_statistics && j < mean_dz.size(); ++j) {
          const std::size_t c = j % dz.size();
          mean_dz[j] = static_cast<float>(dz[c] * inverse_count);
          mean_dz_xhat[j] = static_cast<float>(dz_xhat[c] * inverse_count);
        }
      }
      if (a.dx) gradient_x<decltype(type), kind()>(a, rows, table, mean_dz.data(), mean_dz_xhat.data());
    });
  });
}

}  // namespace frost::cpu
