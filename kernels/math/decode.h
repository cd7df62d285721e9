#pragma once
#include <cstring>

#include "kernels/math/portable.h"

/// Detect's formulas at inference (spec/val.md section 2), s = sigmoid(logit). The order of operations is YOLOv5 v7.0's.
namespace frost::math {

/// exp for |x| <= 87 within 2 ulp, without calls or branches, so that a loop over it becomes vector instructions:
/// e^x = 2^n e^r, |r| <= ln 2 / 2, the latter by its series (the next term, r^8 / 8!, is below 6e-9).
FROST_HD float vector_exp(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the addition rounds to a whole number
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, n times the first is exact
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const std::int32_t bits = (static_cast<std::int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return series * power;
}
FROST_HD float vector_sigmoid(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 87.0f ? 87.0f : x;
  return 1.0f / (1.0f + vector_exp(-x));
}

/// Pixels of the box's centre along one axis; `cell` is the column (row) of the grid.
template <class T> FROST_HD T decode_centre(T s, T cell, T stride) { return (T(2) * s + (cell - T(0.5))) * stride; }
/// Pixels of the box's width (height); `anchor` in grid units.
template <class T> FROST_HD T decode_size(T s, T anchor, T stride) {
  const T twice = T(2) * s;
  return twice * twice * (anchor * stride);
}

}  // namespace frost::math
