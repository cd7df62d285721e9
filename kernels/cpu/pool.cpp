#include "kernels/pool.h"

#include <limits>

#include "kernels/checks.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/math/pool.h"

namespace frost::cpu {
namespace {

/// Work is cut into (image, block of channels): a block's rows fit a core's own cache, and no two threads write one
/// gradient.
struct Blocks {
  std::int64_t channels, each, count;
  Blocks(const Shape& x, std::int64_t bytes_for_a_channel) : channels(x.c) {
    constexpr std::int64_t kCache = 128 * 1024;
    const std::int64_t most = std::max<std::int64_t>(16, kCache / std::max<std::int64_t>(1, bytes_for_a_channel));
    count = std::max<std::int64_t>(1, (x.c + most - 1) / most);
    each = ((x.c + count - 1) / count + 15) / 16 * 16;  // blocks of nearly one size, in whole vectors
    if (count == 1) each = x.c;
    count = each > 0 ? (x.c + each - 1) / each : 0;
  }
  std::int64_t first(std::int64_t block) const { return block * each; }
  std::int64_t size(std::int64_t block) const { return std::min(each, channels - first(block)); }
};

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
FROST_HD void fill(float* values, std::int64_t count, float with) {
  for_lanes(count, [=](std::int64_t j) FROST_LOOP { values[j] = with; });
}

/// values[i] = maximum of values[i .. i + kernel), `unit` floats to a position, in place. Windows double: 1, 2, 4 ... and
/// the last step overlaps, so a window of 5 takes 3 steps instead of 4, one of 13 takes 4. Rows of `length` floats at
/// distance `unit` hold the positions; the last kernel - 1 results are not maxima of whole windows.
FROST_HD void window_maximum(float* values, std::int64_t positions, std::int64_t unit, std::int64_t length,
                             std::int64_t kernel) {
  const auto merge = [=](std::int64_t shift, std::int64_t window) FROST_LOOP {
    // Each value is read before the one it came from is overwritten: ascending order makes the in-place update right.
    const auto larger = [=](float* at, std::int64_t count) FROST_LOOP {
      const float* other = at + shift * unit;
      for_lanes(count, [=](std::int64_t j) FROST_LOOP {
        const float a = at[j], b = other[j];
        at[j] = math::exceeds(b, a) ? b : a;
      });
    };
    const std::int64_t results = positions - window + 1;
    if (length == unit) return larger(values, results * unit);
    for (std::int64_t i = 0; i < results; ++i) larger(values + i * unit, length);
  };
  std::int64_t window = 1;
  for (; 2 * window <= kernel; window *= 2) merge(window, 2 * window);
  if (window < kernel) merge(kernel - window, kernel);
}

/// A side with its padding, and with what the last window covers after it.
std::int64_t padded_size(const PoolGeometry& g, std::int64_t in, std::int64_t out) {
  return std::max(in + 2 * g.pad, (out - 1) * g.stride + g.kernel);
}

/// Separable: maxima along rows, then of those along columns, in a block padded with minus infinity.
template <class T>
void max_forward(const MaxPoolForward& a) {
  const int kernel = a.geometry.kernel, stride = a.geometry.stride, pad = a.geometry.pad;
  const Shape &in = a.x.shape, &out = a.y.shape;
  const std::int64_t rows = padded_size(a.geometry, in.h, out.h), columns = padded_size(a.geometry, in.w, out.w);
  const Blocks blocks(in, rows * columns * 4);
  const auto work = [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    std::vector<float> padded;
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t n = task / blocks.count, c0 = blocks.first(task % blocks.count),
                         c = blocks.size(task % blocks.count);
      const std::int64_t row = columns * c;
      padded.resize(static_cast<std::size_t>(rows * row));
      fill(padded.data(), pad * row, kMinusInfinity);
      fill(padded.data() + (pad + in.h) * row, (rows - pad - in.h) * row, kMinusInfinity);
      for (std::int64_t h = 0; h < in.h; ++h) {
        float* at = padded.data() + (h + pad) * row;
        fill(at, pad * c, kMinusInfinity);
        fill(at + (pad + in.w) * c, (columns - pad - in.w) * c, kMinusInfinity);
        load_pixels(pixel<T>(a.x, n, h, 0) + c0, a.x.pitch, in.w, c, at + pad * c);
        window_maximum(at, columns, c, c, kernel);
      }
      window_maximum(padded.data(), rows, row, (columns - kernel + 1) * c, kernel);
      for (std::int64_t h = 0; h < out.h; ++h) {
        const float* at = padded.data() + h * stride * row;
        T* y = pixel<T>(a.y, n, h, 0) + c0;
        if (stride == 1)
          store_pixels(at, a.y.pitch, out.w, c, y);
        else
          for (std::int64_t w = 0; w < out.w; ++w) store_pixels(at + w * stride * c, c, 1, c, y + w * a.y.pitch);
      }
    }
  };
  simd_ranges(in.n * blocks.count, 1, work);
}

/// each(from, to, length): outputs' floats begin at `from`, the same windows' floats for tap 0 at `to`. One call for a whole
/// row where windows overlap by all but one position.
template <class Each>
FROST_HD void along_row(std::int64_t outputs, std::int64_t stride, std::int64_t c, const Each& each) {
  if (stride == 1) return each(std::int64_t{0}, std::int64_t{0}, outputs * c);
  for (std::int64_t w = 0; w < outputs; ++w) each(w * c, w * stride * c, c);
}

/// The first maximum among values that are offered in turn, and its number: `begin` with the first ones, `offer` the others.
FROST_HD void begin(const float* value, std::int32_t tap, float* top, std::int32_t* at, std::int64_t count) {
  for_lanes(count, [=](std::int64_t j) FROST_LOOP { top[j] = value[j], at[j] = tap; });
}
FROST_HD void offer(const float* value, std::int32_t tap, float* top, std::int32_t* at, std::int64_t count) {
  for_lanes(count, [=](std::int64_t j) FROST_LOOP {
    const float v = value[j], t = top[j];
    const bool take = math::exceeds(v, t);
    top[j] = take ? v : t;
    at[j] = take ? tap : at[j];
  });
}
/// Gives each gradient to the values whose offer was taken: those with number `tap`.
FROST_HD void give(const float* gradient, std::int32_t tap, const std::int32_t* at, float* to, std::int64_t count) {
  for_lanes(count, [=](std::int64_t j) FROST_LOOP { to[j] += math::when(at[j] == tap, gradient[j]); });
}

/// The first maximum of a window in row-major order is in the first row whose own maximum is the window's, at that row's
/// first maximum. So the gradient moves in two one-dimensional steps, each of `kernel` compares and adds that vectorise:
/// from outputs to rows' maxima, then to pixels. (Searching each window for its pixel would read kernel^2 taps.)
template <class T>
void max_backward(const MaxPoolBackward& a) {
  const int kernel = a.geometry.kernel, stride = a.geometry.stride, pad = a.geometry.pad;
  const Shape &in = a.x.shape, &out = a.dy.shape;
  const std::int64_t columns = padded_size(a.geometry, in.w, out.w);
  const Blocks blocks(in, in.h * out.w * 12);
  const auto work = [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    std::vector<float> line, maxima, gradient;        // a padded row; (in.h, out.w, c): rows' maxima, and their gradients
    std::vector<float> best, dy;                      // an output row: maxima, gradients
    std::vector<std::int32_t> column_taps, row_taps;  // where the maxima were found
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t n = task / blocks.count, c0 = blocks.first(task % blocks.count),
                         c = blocks.size(task % blocks.count);
      const std::int64_t width = out.w * c;
      maxima.resize(static_cast<std::size_t>(in.h * width));
      column_taps.resize(maxima.size());
      gradient.assign(maxima.size(), 0.0f);
      line.assign(static_cast<std::size_t>(columns * c), kMinusInfinity);
      best.resize(static_cast<std::size_t>(width));
      dy.resize(best.size());
      row_taps.resize(best.size());

      for (std::int64_t h = 0; h < in.h; ++h) {
        load_pixels(pixel<T>(a.x, n, h, 0) + c0, a.x.pitch, in.w, c, line.data() + pad * c);
        float* top = maxima.data() + h * width;
        std::int32_t* at = column_taps.data() + h * width;
        along_row(out.w, stride, c,
                  [=, x = line.data()](std::int64_t from, std::int64_t to, std::int64_t length) FROST_LOOP {
                    begin(x + to, 0, top + from, at + from, length);
                    for (std::int32_t tap = 1; tap < kernel; ++tap)
                      offer(x + to + tap * c, tap, top + from, at + from, length);
                  });
      }
      for (std::int64_t h = 0; h < out.h; ++h) {
        const std::int64_t top = h * stride - pad;  // the window's first row; rows outside of the image do not take part
        const auto lowest = static_cast<std::int32_t>(std::max<std::int64_t>(0, -top));
        const auto end = static_cast<std::int32_t>(std::min<std::int64_t>(kernel, in.h - top));
        begin(maxima.data() + (top + lowest) * width, lowest, best.data(), row_taps.data(), width);
        for (std::int32_t tap = lowest + 1; tap < end; ++tap)
          offer(maxima.data() + (top + tap) * width, tap, best.data(), row_taps.data(), width);
        load_pixels(pixel<T>(a.dy, n, h, 0) + c0, a.dy.pitch, out.w, c, dy.data());
        for (std::int32_t tap = lowest; tap < end; ++tap)
          give(dy.data(), tap, row_taps.data(), gradient.data() + (top + tap) * width, width);
      }
      for (std::int64_t h = 0; h < in.h; ++h) {
        fill(line.data(), columns * c, 0.0f);
        const float* g = gradient.data() + h * width;
        const std::int32_t* at = column_taps.data() + h * width;
        along_row(out.w, stride, c,
                  [=, d = line.data()](std::int64_t from, std::int64_t to, std::int64_t length) FROST_LOOP {
                    for (std::int32_t tap = 0; tap < kernel; ++tap) give(g + from, tap, at + from, d + to + tap * c, length);
                  });
        store_pixels(line.data() + pad * c, a.dx.pitch, in.w, c, pixel<T>(a.dx, n, h, 0) + c0);
      }
    }
  };
  simd_ranges(in.n * blocks.count, 1, work);
}

template <class T, class Side>
void average_forward(const ConstView& x, const View& y, const Side& rows, const Side& columns) {
  const Shape& out = y.shape;
  simd_ranges(out.pixels(), 1, [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    std::vector<double> sums(static_cast<std::size_t>(out.c));
    for (std::int64_t cell = first; cell < last; ++cell) {
      const std::int64_t w = cell % out.w, h = cell / out.w % out.h, n = cell / (out.w * out.h);
      const math::Range over = rows.values(h), across = columns.values(w);
      std::fill(sums.begin(), sums.end(), 0.0);
      double* sum = sums.data();
      for (std::int64_t i = over.first; i < over.end; ++i)
        for (std::int64_t k = across.first; k < across.end; ++k)
          for_lanes(out.c, [=, from = pixel<T>(x, n, i, k)](std::int64_t j) FROST_LOOP { sum[j] += to_float(from[j]); });
      const double share = 1.0 / static_cast<double>(rows.count(h) * columns.count(w));
      for_lanes(out.c, [=, to = pixel<T>(y, n, h, w)](std::int64_t j)
                           FROST_LOOP { to[j] = from_float<T>(static_cast<float>(sum[j] * share)); });
    }
  });
}

template <class T, class Side>
void average_backward(const ConstView& dy, const View& dx, const Side& rows, const Side& columns) {
  const Shape &in = dx.shape, &out = dy.shape;
  simd_ranges(in.n * in.h, 1, [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    std::vector<float> sums(static_cast<std::size_t>(in.w * in.c));
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t n = row / in.h, h = row % in.h;
      const math::Range over = rows.outputs(h);
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (std::int64_t i = over.first; i < over.end; ++i)
        for (std::int64_t k = 0; k < out.w; ++k) {
          const math::Range across = columns.values(k);
          const float share = 1.0f / static_cast<float>(rows.count(i) * columns.count(k));
          const T* from = pixel<T>(dy, n, i, k);
          for (std::int64_t w = across.first; w < across.end; ++w)
            for_lanes(in.c,
                      [=, sum = sums.data() + w * in.c](std::int64_t j) FROST_LOOP { sum[j] += share * to_float(from[j]); });
        }
      store_pixels(sums.data(), dx.pitch, in.w, in.c, pixel<T>(dx, n, h, 0));
    }
  });
}

}  // namespace

void CpuBackend::max_pool_forward(const MaxPoolForward& a) {
  check_pool("max pool", a.geometry, a.x, a.y);
  with_type(a.x.dtype, "max pool", [&](auto type) { max_forward<decltype(type)>(a); });
}
void CpuBackend::max_pool_backward(const MaxPoolBackward& a) {
  check_pool("max pool backward", a.geometry, a.x, a.dy);
  check_same("max pool backward", a.x, a.dx);
  with_type(a.x.dtype, "max pool backward", [&](auto type) { max_backward<decltype(type)>(a); });
}
void CpuBackend::avg_pool_forward(const AvgPoolForward& a) {
  check_pool("average pool", a.geometry, a.x, a.y);
  const Shape &in = a.x.shape, &out = a.y.shape;
  with_type(a.x.dtype, "average pool",
            [&]<class T>(T) { average_forward<T>(a.x, a.y, side_of(a, in.h, out.h), side_of(a, in.w, out.w)); });
}
void CpuBackend::avg_pool_backward(const AvgPoolBackward& a) {
  check_pool("average pool backward", a.geometry, a.dx, a.dy);
  const Shape &in = a.dx.shape, &out = a.dy.shape;
  with_type(a.dx.dtype, "average pool backward",
            [&]<class T>(T) { average_backward<T>(a.dy, a.dx, side_of(a, in.h, out.h), side_of(a, in.w, out.w)); });
}
void CpuBackend::adaptive_avg_pool_forward(const AdaptiveAvgPoolForward& a) {
  check_spatial("adaptive average pool", a.x, a.y);
  const Shape &in = a.x.shape, &out = a.y.shape;
  with_type(a.x.dtype, "adaptive average pool", [&]<class T>(T) {
    average_forward<T>(a.x, a.y, math::CellSide{in.h, out.h}, math::CellSide{in.w, out.w});
  });
}
void CpuBackend::adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward& a) {
  check_spatial("adaptive average pool", a.dx, a.dy);
  const Shape &in = a.dx.shape, &out = a.dy.shape;
  with_type(a.dx.dtype, "adaptive average pool", [&]<class T>(T) {
    average_backward<T>(a.dy, a.dx, math::CellSide{in.h, out.h}, math::CellSide{in.w, out.w});
  });
}

}  // namespace frost::cpu
