#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/checks.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/dispatch.h"
#include "kernels/math/half.h"
#include "kernels/view.h"

namespace frost::cpu {

using math::bf16;
using math::f16;
using math::from_float;
using math::to_float;

/// How a loop over pixels is cut into rows of `width` neighbouring values. Where all views are packed, several pixels make
/// one row, so that a vector loop over a row is long even for 3 or 16 channels; parameters of channels are then repeated.
/// Rows start at pixel r * pixels_each; the last one may be shorter.
struct Rows {
  std::int64_t count = 0, pixels_each = 1, width = 0, last_width = 0;

  Rows(const Shape& shape, bool all_packed, std::int64_t wanted_width) {
    const std::int64_t pixels = shape.pixels();
    if (pixels == 0 || shape.c == 0) return;
    if (all_packed) pixels_each = std::clamp<std::int64_t>(wanted_width / shape.c, 1, pixels);
    count = (pixels + pixels_each - 1) / pixels_each;
    width = pixels_each * shape.c;
    last_width = (pixels - (count - 1) * pixels_each) * shape.c;
  }
  /// Rows of full width come first.
  std::int64_t full() const { return last_width == width ? count : count - 1; }
  std::int64_t width_of(std::int64_t row) const { return row == count - 1 ? last_width : width; }
  /// Rows that are worth a thread of their own: about 16k values.
  std::int64_t grain() const { return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, width)); }
};

/// A row of parameters: channel values repeated over the row's pixels. Null: `missing` for every channel.
inline void repeat(const float* channel_values, float missing, std::int64_t channels, std::int64_t width, float* row) {
  for (std::int64_t j = 0; j < width; ++j) row[j] = channel_values ? channel_values[j % channels] : missing;
}

/// each(pixel, width) for every row: `width` values from pixel number `pixel` on. For what needs no channel's parameters.
template <class Each>
void for_rows(const Shape& shape, bool all_packed, const Each& each) {
  const Rows rows(shape, all_packed, 4096);
  simd_ranges(rows.count, rows.grain(), [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    for (std::int64_t r = first; r < last; ++r) each(r * rows.pixels_each, rows.width_of(r));
  });
}

/// Sums over rows, `columns` doubles: body(first, last, sums) adds its rows to zeroed sums, one part a thread. The parts are
/// added in order, so the bits depend on the number of threads alone.
template <class Body>
std::vector<double> column_sums(std::int64_t rows, std::int64_t grain, std::int64_t columns, const Body& body) {
  const std::int64_t parts = std::clamp<std::int64_t>(rows / std::max<std::int64_t>(1, grain), 1, omp_get_max_threads());
  const std::int64_t stride = (columns + 7) / 8 * 8 + 8;  // no cache line is shared by two parts
  std::vector<double> sums(static_cast<std::size_t>(parts * stride), 0.0);
  parallel_ranges(parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t part = first; part < last; ++part) {
      double* own = sums.data() + part * stride;
      simd_range(rows * part / parts, rows * (part + 1) / parts,
                 [&, own](std::int64_t from, std::int64_t to) FROST_LOOP { body(from, to, own); });
    }
  });
  for (std::int64_t part = 1; part < parts; ++part)
    for (std::int64_t j = 0; j < columns; ++j)
      sums[static_cast<std::size_t>(j)] += sums[static_cast<std::size_t>(part * stride + j)];
  return sums;
}

/// `pixels` neighbouring pixels of `channels` values each, between a view's type and packed f32.
template <class T>
FROST_HD void load_pixels(const T* x, std::int64_t pitch, std::int64_t pixels, std::int64_t channels, float* out) {
  if (pitch == channels) return for_lanes(pixels * channels, [=](std::int64_t j) FROST_LOOP { out[j] = to_float(x[j]); });
  for (std::int64_t i = 0; i < pixels; ++i)
    for_lanes(channels, [=](std::int64_t j) FROST_LOOP { out[i * channels + j] = to_float(x[i * pitch + j]); });
}
template <class T>
FROST_HD void store_pixels(const float* in, std::int64_t pitch, std::int64_t pixels, std::int64_t channels, T* y) {
  if (pitch == channels)
    return for_lanes(pixels * channels, [=](std::int64_t j) FROST_LOOP { y[j] = from_float<T>(in[j]); });
  for (std::int64_t i = 0; i < pixels; ++i)
    for_lanes(channels, [=](std::int64_t j) FROST_LOOP { y[i * pitch + j] = from_float<T>(in[i * channels + j]); });
}

/// Where pixel (n, h, w) of a view begins.
template <class T>
FROST_HD const T* pixel(const ConstView& v, std::int64_t n, std::int64_t h, std::int64_t w) {
  return v.as<T>() + ((n * v.shape.h + h) * v.shape.w + w) * v.pitch;
}
template <class T>
FROST_HD T* pixel(const View& v, std::int64_t n, std::int64_t h, std::int64_t w) {
  return v.as<T>() + ((n * v.shape.h + h) * v.shape.w + w) * v.pitch;
}

/// The type behind a view's data, as a value of that type: the CPU computes with f32 and bf16 activations.
template <class Use>
void with_type(DType dtype, const char* what, const Use& use) {
  switch (dtype) {
    case DType::f32:
      return use(float{});
    case DType::bf16:
      return use(bf16{});
    default:
      fail(what, ": the CPU has no activations of type ", name_of(dtype));
  }
}

}  // namespace frost::cpu
