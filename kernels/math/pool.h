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

/// Adaptive pooling: output cell i of `out` covers [begin, end) of `in` values.
FROST_HD std::int64_t cell_begin(std::int64_t i, std::int64_t in, std::int64_t out) { return i * in / out; }
FROST_HD std::int64_t cell_end(std::int64_t i, std::int64_t in, std::int64_t out) { return ((i + 1) * in + out - 1) / out; }

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
