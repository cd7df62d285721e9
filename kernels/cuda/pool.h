#pragma once
#include <limits>

#include "kernels/checks.h"
#include "kernels/cuda/vector_items.h"
#include "kernels/dispatch.h"
#include "kernels/math/pool.h"
#include "kernels/pool.h"

/// The pooling primitives over a launcher (run.h). Items of neighbouring pixels share their windows, so all but the first
/// read of a value comes from a cache: that is what the floors count.
namespace frost::cuda {

/// Rows (or columns) of a window that lie inside of `size`.
struct Span {
  std::int64_t first, end;
};
FROST_HD Span window(std::int64_t out, int kernel, int stride, int pad, std::int64_t size) {
  const std::int64_t from = out * stride - pad, to = from + kernel;
  return {from < 0 ? 0 : from, to < size ? to : size};
}
/// Outputs whose window holds row (or column) `at`.
FROST_HD Span windows_over(std::int64_t at, int kernel, int stride, int pad, std::int64_t outputs) {
  const std::int64_t last = (at + pad) / stride, before = at + pad - kernel;  // at most the last; more than `before`
  return {before < 0 ? 0 : before / stride + 1, last + 1 < outputs ? last + 1 : outputs};
}

/// y or, where there are `taps`, the window's number (row * kernel + column) of the first maximum. Floor: reads x once,
/// writes y (or the taps) once.
template <int width, class T>
struct MaxPool {
  Items items;
  Pixels pixels;  // of y
  PoolGeometry geometry;
  Plane<const T> x;
  Plane<T> y;
  Plane<std::uint16_t> taps;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const Span rows = window(row, geometry.kernel, geometry.stride, geometry.pad, x.h),
               columns = window(column, geometry.kernel, geometry.stride, geometry.pad, x.w);
    const std::int64_t top = row * geometry.stride - geometry.pad, left = column * geometry.stride - geometry.pad;
    Lanes<width> best = load<width>(x.pixel(n, rows.first, columns.first) + at.channel, at.count);
    Pack<std::uint16_t, width> tap;
    const auto first = static_cast<std::uint16_t>((rows.first - top) * geometry.kernel + columns.first - left);
    FROST_UNROLL
    for (int j = 0; j < width; ++j) tap.lane[j] = first;
    for (std::int64_t h = rows.first; h < rows.end; ++h)
      for (std::int64_t w = columns.first; w < columns.end; ++w) {
        const auto lanes = load<width>(x.pixel(n, h, w) + at.channel, at.count);
        const auto here = static_cast<std::uint16_t>((h - top) * geometry.kernel + w - left);
        FROST_UNROLL
        for (int j = 0; j < width; ++j)
          if (math::exceeds(lanes[j], best[j])) best[j] = lanes[j], tap.lane[j] = here;
      }
    if (taps.data)
      store_pack(taps.pixel(at.pixel) + at.channel, tap, at.count);
    else
      store<width>(y.pixel(at.pixel) + at.channel, best, at.count);
  }
};

/// dx of a pixel gathers dy from the windows whose first maximum it is, in order: the same bits every time, no atomics.
/// Floor: reads taps and dy once, writes dx once.
template <int width, class T>
struct MaxPoolGather {
  Items items;
  Pixels pixels;  // of dx
  PoolGeometry geometry;
  Plane<const std::uint16_t> taps;
  Plane<const T> dy;
  Plane<T> dx;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const Span rows = windows_over(row, geometry.kernel, geometry.stride, geometry.pad, dy.h),
               columns = windows_over(column, geometry.kernel, geometry.stride, geometry.pad, dy.w);
    Lanes<width> sum{};
    for (std::int64_t h = rows.first; h < rows.end; ++h)
      for (std::int64_t w = columns.first; w < columns.end; ++w) {
        const auto tap = static_cast<int>((row + geometry.pad - h * geometry.stride) * geometry.kernel + column +
                                          geometry.pad - w * geometry.stride);
        const std::int64_t pixel = (n * dy.h + h) * dy.w + w;
        const auto winner = load_pack<width>(taps.pixel(pixel) + at.channel, at.count);
        const auto gradient = load<width>(dy.pixel(pixel) + at.channel, at.count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) sum[j] += math::when(winner.lane[j] == tap, gradient[j]);
      }
    store<width>(dx.pixel(at.pixel) + at.channel, sum, at.count);
  }
};

template <class T, class Launch>
void max_pool(const Launch& launch, const PoolGeometry& g, const ConstView& x, const View& y, const View& taps) {
  over_vectors<T>(launch, {x, y, taps}, y.shape, [&](auto width, const Items& items) {
    return MaxPool<width, T>{items, Pixels(y.shape), g, plane<T>(x), plane<T>(y), plane<std::uint16_t>(taps)};
  });
}

template <class Launch>
void max_pool_forward(const Launch& launch, const MaxPoolForward& a) {
  check_pool("max pool", a.geometry, a.x, a.y);
  with_float(a.x.dtype, "max pool", [&]<class T>(T) { max_pool<T>(launch, a.geometry, a.x, a.y, {}); });
}

static_assert(PoolGeometry::kLargest * PoolGeometry::kLargest - 1 <= std::numeric_limits<std::uint16_t>::max());

/// x is read once more to find the maxima again, as 16-bit numbers in scratch memory: kept from forward, they would be alive
/// until backward.
template <class Launch>
void max_pool_backward(const Launch& launch, const MaxPoolBackward& a) {
  check_pool("max pool backward", a.geometry, a.x, a.dy);
  check_same("max pool backward", a.x, a.dx);
  const Shape& out = a.dy.shape;
  with_float(a.x.dtype, "max pool backward", [&]<class T>(T) {
    constexpr std::int64_t kTaps = kVectorBytes / sizeof(std::uint16_t);
    View taps{nullptr, out, DType::f16, (out.c + kTaps - 1) / kTaps * kTaps};  // of f16's size
    taps.data = launch.scratch(static_cast<std::size_t>(out.pixels() * taps.pitch) * sizeof(std::uint16_t));
    max_pool<T>(launch, a.geometry, a.x, View{nullptr, out, a.x.dtype, out.c}, taps);
    over_vectors<T>(launch, {a.dy, a.dx, taps}, a.dx.shape, [&](auto width, const Items& items) {
      return MaxPoolGather<width, T>{items,          Pixels(a.dx.shape), a.geometry, plane<std::uint16_t>(ConstView(taps)),
                                     plane<T>(a.dy), plane<T>(a.dx)};
    });
  });
}

/// The mean of each output cell, summed in double as the CPU does. Floor: reads x once, writes y once.
template <int width, class T>
struct AveragePool {
  Items items;
  Pixels pixels;  // of y
  Plane<const T> x;
  Plane<T> y;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const std::int64_t h0 = math::cell_begin(row, x.h, y.h), h1 = math::cell_end(row, x.h, y.h);
    const std::int64_t w0 = math::cell_begin(column, x.w, y.w), w1 = math::cell_end(column, x.w, y.w);
    Lanes<width, double> sum{};
    for (std::int64_t h = h0; h < h1; ++h)
      for (std::int64_t w = w0; w < w1; ++w) {
        const auto lanes = load<width>(x.pixel(n, h, w) + at.channel, at.count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) sum[j] += lanes[j];
      }
    const double share = 1.0 / static_cast<double>((h1 - h0) * (w1 - w0));
    Lanes<width> mean;
    FROST_UNROLL
    for (int j = 0; j < width; ++j) mean[j] = static_cast<float>(sum[j] * share);
    store<width>(y.pixel(at.pixel) + at.channel, mean, at.count);
  }
};

/// A pixel lies in the cells from cell_begin to cell_end of the other direction; each gives its share. Floor: reads dy once,
/// writes dx once.
template <int width, class T>
struct AveragePoolBackward {
  Items items;
  Pixels pixels;  // of dx
  Plane<const T> dy;
  Plane<T> dx;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const std::int64_t h0 = math::cell_begin(row, dy.h, dx.h), h1 = math::cell_end(row, dy.h, dx.h);
    const std::int64_t w0 = math::cell_begin(column, dy.w, dx.w), w1 = math::cell_end(column, dy.w, dx.w);
    Lanes<width> sum{};
    for (std::int64_t h = h0; h < h1; ++h) {
      const std::int64_t rows = math::cell_end(h, dx.h, dy.h) - math::cell_begin(h, dx.h, dy.h);
      for (std::int64_t w = w0; w < w1; ++w) {
        const std::int64_t columns = math::cell_end(w, dx.w, dy.w) - math::cell_begin(w, dx.w, dy.w);
        const float share = 1.0f / static_cast<float>(rows * columns);
        const auto lanes = load<width>(dy.pixel(n, h, w) + at.channel, at.count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) sum[j] += share * lanes[j];
      }
    }
    store<width>(dx.pixel(at.pixel) + at.channel, sum, at.count);
  }
};

template <class Launch>
void adaptive_avg_pool_forward(const Launch& launch, const AdaptiveAvgPoolForward& a) {
  check_spatial("adaptive average pool", a.x, a.y);
  with_float(a.x.dtype, "adaptive average pool", [&]<class T>(T) {
    over_vectors<T>(launch, {a.x, a.y}, a.y.shape, [&](auto width, const Items& items) {
      return AveragePool<width, T>{items, Pixels(a.y.shape), plane<T>(a.x), plane<T>(a.y)};
    });
  });
}
template <class Launch>
void adaptive_avg_pool_backward(const Launch& launch, const AdaptiveAvgPoolBackward& a) {
  check_spatial("adaptive average pool", a.dx, a.dy);
  with_float(a.dx.dtype, "adaptive average pool", [&]<class T>(T) {
    over_vectors<T>(launch, {a.dy, a.dx}, a.dx.shape, [&](auto width, const Items& items) {
      return AveragePoolBackward<width, T>{items, Pixels(a.dx.shape), plane<T>(a.dy), plane<T>(a.dx)};
    });
  });
}

}  // namespace frost::cuda
