#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/kernels/vector_items.cuh"
#include "kernels/dispatch.h"
#include "kernels/math/pool.h"
#include "kernels/pool.h"

/// Resizing over a launcher (kernel_launch.cuh).
namespace frost::cuda {

/// Where the outputs of one axis read, and which outputs read an input.
template <ResizeMode mode>
struct ResizeAxis {
  std::int64_t in, out;
  Divider by_out;
  ResizeAxis(std::int64_t from, std::int64_t to) : in(from), out(to), by_out(to) {}

  FROST_HD math::ResizeTap tap(std::int64_t i) const {
    if constexpr (mode == ResizeMode::bilinear) return math::bilinear_tap(i, in, out);
    if constexpr (mode == ResizeMode::bilinear_corners) return math::corner_tap(i, in, out);
    const std::int64_t source = by_out.quotient(i * in);  // math::nearest_tap without its 64-bit divisions
    return {source, source, 0};
  }
  /// The weight with which output i reads `source`.
  FROST_HD float weight(std::int64_t i, std::int64_t source) const {
    const auto t = tap(i);
    return (t.low == source ? 1 - t.fraction : 0.0f) + (t.high == source && t.fraction > 0 ? t.fraction : 0.0f);
  }
  /// Outputs [first, end) hold all that read `source`, and a few more that do not: their weight is 0. Bilinear: centres
  /// (i + 0.5) in / out - 0.5 within one of `source`; with aligned corners i (in - 1) / (out - 1).
  FROST_HD std::int64_t first(std::int64_t source) const {
    if constexpr (mode == ResizeMode::bilinear_corners) {
      const std::int64_t i = in > 1 ? (source - 1) * (out - 1) / (in - 1) - 1 : 0;
      return i < 0 ? 0 : i;
    }
    const std::int64_t i = (source - (mode == ResizeMode::bilinear ? 1 : 0)) * out / in - 1;
    return i < 0 ? 0 : i;
  }
  FROST_HD std::int64_t end(std::int64_t source) const {
    if constexpr (mode == ResizeMode::bilinear_corners) {
      const std::int64_t i = in > 1 ? (source + 1) * (out - 1) / (in - 1) + 2 : out;
      return i < out ? i : out;
    }
    const std::int64_t i = (source + (mode == ResizeMode::bilinear ? 2 : 1)) * out / in + 2;
    return i < out ? i : out;
  }
};

/// Lower bound: reads x once (neighbours share it through the cache), writes y once.
template <int width, class T, ResizeMode mode>
struct Resize {
  Items items;
  Pixels pixels;  // of y
  ResizeAxis<mode> rows, columns;
  Plane<const T> x;
  Plane<T> y;

  FROST_HD void add(Lanes<width>& sum, float weight, const T* from, int count) const {
    const auto lanes = load<width>(from, count);
    FROST_UNROLL
    for (int j = 0; j < width; ++j) sum[j] += weight * lanes[j];
  }
  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const auto r = rows.tap(row), c = columns.tap(column);
    Lanes<width> sum{};
    if constexpr (mode == ResizeMode::nearest) {
      sum = load<width>(x.pixel(n, r.low, c.low) + at.channel, at.count);
    } else {
      // Taps whose weight is 0 are left out, so that an infinity beside an exact position does no harm.
      const float top = 1 - r.fraction, left = 1 - c.fraction;
      add(sum, top * left, x.pixel(n, r.low, c.low) + at.channel, at.count);
      if (c.fraction > 0) add(sum, top * c.fraction, x.pixel(n, r.low, c.high) + at.channel, at.count);
      if (r.fraction > 0) add(sum, r.fraction * left, x.pixel(n, r.high, c.low) + at.channel, at.count);
      if (r.fraction > 0 && c.fraction > 0)
        add(sum, r.fraction * c.fraction, x.pixel(n, r.high, c.high) + at.channel, at.count);
    }
    store<width>(y.pixel(at.pixel) + at.channel, sum, at.count);
  }
};

/// dx gathers from the outputs that read it, in order: no atomics. Lower bound: reads dy once (neighbours share it through
/// the cache), writes dx once.
template <int width, class T, ResizeMode mode>
struct ResizeGather {
  Items items;
  Pixels pixels;  // of dx
  ResizeAxis<mode> rows, columns;
  Plane<const T> dy;
  Plane<T> dx;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    Lanes<width> sum{};
    for (std::int64_t h = rows.first(row); h < rows.end(row); ++h) {
      const float down = rows.weight(h, row);
      if (down == 0) continue;
      for (std::int64_t w = columns.first(column); w < columns.end(column); ++w) {
        const float weight = down * columns.weight(w, column);
        if (weight == 0) continue;
        const auto lanes = load<width>(dy.pixel(n, h, w) + at.channel, at.count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) sum[j] += weight * lanes[j];
      }
    }
    store<width>(dx.pixel(at.pixel) + at.channel, sum, at.count);
  }
};

/// use(std::integral_constant<ResizeMode, mode>{}).
template <class Use>
void with_resize_mode(ResizeMode mode, const Use& use) {
  if (mode == ResizeMode::nearest) return use(std::integral_constant<ResizeMode, ResizeMode::nearest>{});
  if (mode == ResizeMode::bilinear) return use(std::integral_constant<ResizeMode, ResizeMode::bilinear>{});
  use(std::integral_constant<ResizeMode, ResizeMode::bilinear_corners>{});
}

template <class Launch>
void resize_forward(const Launch& launch, const ResizeForward& a) {
  check_spatial("resize", a.x, a.y);
  const Shape &in = a.x.shape, &out = a.y.shape;
  with_float(a.x.dtype, "resize", [&]<class T>(T) {
    with_resize_mode(a.mode, [&](auto mode) {
      over_vectors<T>(launch, {a.x, a.y}, out, [&](auto width, const Items& items) {
        return Resize<width, T, decltype(mode)::value>{items,         Pixels(out),   {in.h, out.h},
                                                       {in.w, out.w}, plane<T>(a.x), plane<T>(a.y)};
      });
    });
  });
}
template <class Launch>
void resize_backward(const Launch& launch, const ResizeBackward& a) {
  check_spatial("resize", a.dx, a.dy);
  const Shape &in = a.dx.shape, &out = a.dy.shape;
  with_float(a.dx.dtype, "resize backward", [&]<class T>(T) {
    with_resize_mode(a.mode, [&](auto mode) {
      over_vectors<T>(launch, {a.dy, a.dx}, in, [&](auto width, const Items& items) {
        return ResizeGather<width, T, decltype(mode)::value>{items,         Pixels(in),     {in.h, out.h},
                                                             {in.w, out.w}, plane<T>(a.dy), plane<T>(a.dx)};
      });
    });
  });
}

}  // namespace frost::cuda
