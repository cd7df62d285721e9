#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/elementwise.h"
#include "kernels/math/softmax.h"

namespace frost::cpu {
namespace {

/// The largest of a row, and the sum of e^(x - largest); NaN anywhere makes the sum NaN.
struct RowScale {
  float largest;
  double sum;
};
FROST_HD RowScale row_scale(const float* x, std::int64_t count) {
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t j = 0; j < count; ++j) largest = x[j] > largest ? x[j] : largest;
  return {largest, sum_of_lanes(count, [=](std::int64_t j) FROST_LOOP { return math::exp(x[j] - largest); })};
}

template <class T>
void forward(const SoftmaxForward& a) {
  const std::int64_t c = a.x.shape.c;
  simd_ranges(
      a.x.shape.pixels(), std::max<std::int64_t>(1, 4096 / c), [&](std::int64_t first, std::int64_t last) FROST_LOOP {
        std::vector<float> row(static_cast<std::size_t>(c));
        for (std::int64_t i = first; i < last; ++i) {
          load_pixels(a.x.as<T>() + i * a.x.pitch, c, 1, c, row.data());
          const auto [largest, sum] = row_scale(row.data(), c);
          const float scale = static_cast<float>(1.0 / sum), shift = static_cast<float>(std::log(sum));
          const float* x = row.data();
          T* y = a.y.as<T>() + i * a.y.pitch;
          if (a.log)
            for_lanes(c, [=, top = largest](std::int64_t j) FROST_LOOP { y[j] = from_float<T>((x[j] - top) - shift); });
          else
            for_lanes(
                c, [=, top = largest](std::int64_t j) FROST_LOOP { y[j] = from_float<T>(math::exp(x[j] - top) * scale); });
        }
      });
}

template <class T>
void backward(const SoftmaxBackward& a) {
  const std::int64_t c = a.y.shape.c;
  simd_ranges(
      a.y.shape.pixels(), std::max<std::int64_t>(1, 4096 / c), [&](std::int64_t first, std::int64_t last) FROST_LOOP {
        for (std::int64_t i = first; i < last; ++i) {
          const T *y = a.y.as<T>() + i * a.y.pitch, *dy = a.dy.as<T>() + i * a.dy.pitch;
          T* dx = a.dx.as<T>() + i * a.dx.pitch;
          const auto sum = static_cast<float>(sum_of_lanes(c, [=, log = a.log](std::int64_t j) FROST_LOOP {
            return static_cast<double>(to_float(dy[j])) * (log ? 1.0f : to_float(y[j]));
          }));
          if (a.log)
            for_lanes(c, [=](std::int64_t j) FROST_LOOP {
              dx[j] = from_float<T>(math::log_softmax_dx(to_float(y[j]), to_float(dy[j]), sum));
            });
          else
            for_lanes(c, [=](std::int64_t j)
                             FROST_LOOP { dx[j] = from_float<T>(math::softmax_dx(to_float(y[j]), to_float(dy[j]), sum)); });
        }
      });
}

}  // namespace

void CpuBackend::softmax_forward(const SoftmaxForward& a) {
  check_same("softmax", a.x, a.y);
  with_type(a.x.dtype, "softmax", [&](auto type) { forward<decltype(type)>(a); });
}
void CpuBackend::softmax_backward(const SoftmaxBackward& a) {
  check_same("softmax backward", a.y, a.dy);
  check_same("softmax backward", a.y, a.dx);
  with_type(a.y.dtype, "softmax backward", [&](auto type) { backward<decltype(type)>(a); });
}

void CpuBackend::cross_entropy(const CrossEntropy& a) {
  FROST_CHECK(a.rows > 0 && a.classes > 0, "cross entropy: ", a.rows, " rows of ", a.classes, " classes");
  for (std::int64_t i = 0; i < a.rows; ++i)
    FROST_CHECK(a.labels[i] >= 0 && a.labels[i] < a.classes, "cross entropy: label ", a.labels[i], " in row ", i,
                ", there are ", a.classes, " classes");
  std::vector<double> losses(static_cast<std::size_t>(a.rows));  // added in order afterwards, for the same bits
  simd_ranges(a.rows, std::max<std::int64_t>(1, 4096 / a.classes), [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    const float smoothing = a.label_smoothing, classes = static_cast<float>(a.classes);
    const float scale = a.grad_scale ? *a.grad_scale : 1.0f;
    for (std::int64_t i = first; i < last; ++i) {
      const float* x = a.logits + i * a.classes;
      const std::int64_t label = a.labels[i];
      const auto [largest, sum] = row_scale(x, a.classes);
      // The targets of a row sum to 1: loss = log sum e^x - sum of target * x.
      const double expected = sum_of_lanes(a.classes, [=, top = largest](std::int64_t j) FROST_LOOP {
        return static_cast<double>(math::smooth_target(j == label, smoothing, classes)) * (x[j] - top);
      });
      losses[static_cast<std::size_t>(i)] = std::log(sum) - expected;
      if (!a.dlogits) continue;
      const float share = static_cast<float>(1.0 / sum), weight = scale / static_cast<float>(a.rows);
      for_lanes(a.classes, [=, top = largest, d = a.dlogits + i * a.classes](std::int64_t j) FROST_LOOP {
        d[j] = weight * (math::exp(x[j] - top) * share - math::smooth_target(j == label, smoothing, classes));
      });
    }
  });
  double total = 0;
  for (const double loss : losses) total += loss;
  *a.loss = static_cast<float>(total / static_cast<double>(a.rows));
}

}  // namespace frost::cpu
