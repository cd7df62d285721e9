#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// Does `value`, met later in row-major order, replace the maximum so far? Equal values do not: the first one keeps the
/// gradient. NaN does, so that a broken activation is not hidden by pooling.
template <class T>
FROST_HD bool exceeds(T value, T best) {
  return (value > best) | (value != value);
}

/// value where `condition` holds, else 0: in bits, since GCC makes a slow masked load of `condition ? *value : 0`.
FROST_HD float when(bool condition, float value) {
  return bits_as<float>(bits_as<std::uint32_t>(value) & (condition ? ~std::uint32_t{0} : 0u));
}

/// Rows (or columns) of one side of an image.
struct Range {
  std::int64_t first, end;
};
/// What window `out` covers of `size` values.
FROST_HD Range window(std::int64_t out, int kernel, int stride, int pad, std::int64_t size) {
  const std::int64_t from = out * stride - pad, to = from + kernel;
  return {from < 0 ? 0 : from, to < size ? to : size};
}
/// Outputs whose window holds value `at`.
FROST_HD Range windows_over(std::int64_t at, int kernel, int stride, int pad, std::int64_t outputs) {
  const std::int64_t last = (at + pad) / stride, before = at + pad - kernel;  // at most the last; more than `before`
  return {before < 0 ? 0 : before / stride + 1, last + 1 < outputs ? last + 1 : outputs};
}

/// One side of an average pooling, as both kinds need it: the values that output i averages, their number, and the outputs
/// that average value `at`.
struct CellSide {  // adaptive: output i covers floor(i in / out) .. ceil((i + 1) in / out) - 1
  std::int64_t in, out;
  FROST_HD Range values(std::int64_t i) const { return {i * in / out, ((i + 1) * in + out - 1) / out}; }
  FROST_HD std::int64_t count(std::int64_t i) const { return values(i).end - values(i).first; }
  FROST_HD Range outputs(std::int64_t at) const { return {at * out / in, ((at + 1) * out + in - 1) / in}; }
};
struct WindowSide {  // windows of one size; those over the end of the padding are cut there, as PyTorch does
  int kernel, stride, pad;
  bool count_padding;
  std::int64_t in, out;
  FROST_HD Range values(std::int64_t i) const { return window(i, kernel, stride, pad, in); }
  FROST_HD std::int64_t count(std::int64_t i) const {
    if (!count_padding) return values(i).end - values(i).first;
    const std::int64_t from = i * stride - pad, to = from + kernel;
    return (to < in + pad ? to : in + pad) - from;
  }
  FROST_HD Range outputs(std::int64_t at) const { return windows_over(at, kernel, stride, pad, out); }
};

/// Resizing: output i reads `low` and `high` with weights 1 - fraction and fraction.
struct ResizeTap {
  std::int64_t low, high;
  float fraction;
};
FROST_HD ResizeTap nearest_tap(std::int64_t i, std::int64_t in, std::int64_t out) { return {i * in / out, i * in / out, 0}; }
FROST_HD ResizeTap bilinear_tap(std::int64_t i, std::int64_t in, std::int64_t out) {  // half-pixel centres, edges repeated
  const double centre = (static_cast<double>(i) + 0.5) * static_cast<double>(in) / static_cast<double>(out) - 0.5;
  const double source = centre < 0 ? 0 : centre;
  const auto low = static_cast<std::int64_t>(source);
  return {low, low + 1 < in ? low + 1 : low, static_cast<float>(source - static_cast<double>(low))};
}

FROST_HD ResizeTap corner_tap(std::int64_t i, std::int64_t in, std::int64_t out) {  // first and last centres coincide
  const double source = out > 1 ? static_cast<double>(i * (in - 1)) / static_cast<double>(out - 1) : 0;
  const auto low = static_cast<std::int64_t>(source);
  return {low, low + 1 < in ? low + 1 : low, static_cast<float>(source - static_cast<double>(low))};
}

}  // namespace frost::math
