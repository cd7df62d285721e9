#pragma once
#include <limits>

#include "kernels/checks.h"
#include "kernels/cuda/kernels/vector_items.cuh"
#include "kernels/dispatch.h"
#include "kernels/math/pool.h"
#include "kernels/pool.h"

/// The pooling primitives over a launcher (kernel_launch.cuh). Items of neighbouring pixels share their windows, so all but
/// the first read of a value comes from a cache: that is what the lower bounds count.
namespace frost::cuda {

/// y or, where there are `taps`, the window's number (row * kernel + column) of the first maximum. Lower bound: reads x
/// once, writes y (or the taps) once.
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
    const math::Range rows = math::window(row, geometry.kernel, geometry.stride, geometry.pad, x.h),
                      columns = math::window(column, geometry.kernel, geometry.stride, geometry.pad, x.w);
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
/// Lower bound: reads taps and dy once, writes dx once.
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
    const math::Range rows = math::windows_over(row, geometry.kernel, geometry.stride, geometry.pad, dy.h),
                      columns = math::windows_over(column, geometry.kernel, geometry.stride, geometry.pad, dy.w);
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

/// x is read once more to find the maxima again, as 16-bit numbers in scratch memory: kept from forward, they would take
/// memory until backward.
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

/// The mean of each output's values, summed in double as the CPU does. Lower bound: reads x once, writes y once.
template <int width, class T, class Side>
struct AveragePool {
  Items items;
  Pixels pixels;  // of y
  Side rows, columns;
  Plane<const T> x;
  Plane<T> y;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const math::Range over = rows.values(row), across = columns.values(column);
    Lanes<width, double> sum{};
    for (std::int64_t h = over.first; h < over.end; ++h)
      for (std::int64_t w = across.first; w < across.end; ++w) {
        const auto lanes = load<width>(x.pixel(n, h, w) + at.channel, at.count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) sum[j] += lanes[j];
      }
    const double share = 1.0 / static_cast<double>(rows.count(row) * columns.count(column));
    Lanes<width> mean;
    FROST_UNROLL
    for (int j = 0; j < width; ++j) mean[j] = static_cast<float>(sum[j] * share);
    store<width>(y.pixel(at.pixel) + at.channel, mean, at.count);
  }
};

/// Each output that averages a pixel gives it its share. Lower bound: reads dy once, writes dx once.
template <int width, class T, class Side>
struct AveragePoolBackward {
  Items items;
  Pixels pixels;  // of dx
  Side rows, columns;
  Plane<const T> dy;
  Plane<T> dx;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const math::Range over = rows.outputs(row), across = columns.outputs(column);
    Lanes<width> sum{};
    for (std::int64_t h = over.first; h < over.end; ++h)
      for (std::int64_t w = across.first; w < across.end; ++w) {
        const float share = 1.0f / static_cast<float>(rows.count(h) * columns.count(w));
        const auto lanes = load<width>(dy.pixel(n, h, w) + at.channel, at.count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) sum[j] += share * lanes[j];
      }
    store<width>(dx.pixel(at.pixel) + at.channel, sum, at.count);
  }
};

template <class Launch, class Side>
void average_forward(const Launch& launch, const ConstView& x, const View& y, const Side& rows, const Side& columns) {
  with_float(x.dtype, "average pool", [&]<class T>(T) {
    over_vectors<T>(launch, {x, y}, y.shape, [&](auto width, const Items& items) {
      return AveragePool<width, T, Side>{items, Pixels(y.shape), rows, columns, plane<T>(x), plane<T>(y)};
    });
  });
}
template <class Launch, class Side>
void average_backward(const Launch& launch, const ConstView& dy, const View& dx, const Side& rows, const Side& columns) {
  with_float(dx.dtype, "average pool backward", [&]<class T>(T) {
    over_vectors<T>(launch, {dy, dx}, dx.shape, [&](auto width, const Items& items) {
      return AveragePoolBackward<width, T, Side>{items, Pixels(dx.shape), rows, columns, plane<T>(dy), plane<T>(dx)};
    });
  });
}

template <class Launch>
void avg_pool_forward(const Launch& launch, const AvgPoolForward& a) {
  check_pool("average pool", a.geometry, a.x, a.y);
  const Shape &in = a.x.shape, &out = a.y.shape;
  average_forward(launch, a.x, a.y, side_of(a, in.h, out.h), side_of(a, in.w, out.w));
}
template <class Launch>
void avg_pool_backward(const Launch& launch, const AvgPoolBackward& a) {
  check_pool("average pool backward", a.geometry, a.dx, a.dy);
  const Shape &in = a.dx.shape, &out = a.dy.shape;
  average_backward(launch, a.dy, a.dx, side_of(a, in.h, out.h), side_of(a, in.w, out.w));
}
template <class Launch>
void adaptive_avg_pool_forward(const Launch& launch, const AdaptiveAvgPoolForward& a) {
  check_spatial("adaptive average pool", a.x, a.y);
  const Shape &in = a.x.shape, &out = a.y.shape;
  average_forward(launch, a.x, a.y, math::CellSide{in.h, out.h}, math::CellSide{in.w, out.w});
}
template <class Launch>
void adaptive_avg_pool_backward(const Launch& launch, const AdaptiveAvgPoolBackward& a) {
  check_spatial("adaptive average pool", a.dx, a.dy);
  const Shape &in = a.dx.shape, &out = a.dy.shape;
  average_backward(launch, a.dy, a.dx, math::CellSide{in.h, out.h}, math::CellSide{in.w, out.w});
}

}  // namespace frost::cuda
