#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

template <class T>
FROST_HD T exp(T x) { return std::exp(x); }

/// e^x in plain arithmetic, so that a loop around it becomes vector code (std::exp stays a call without -ffast-math).
/// x = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite: ln 2 in two parts, the first with 9 bits, so that n times it is
/// exact), e^r by a polynomial, times 2^n in two steps so that results below the normal range are rounded once and
/// not flushed. Largest error 1.0 ulp over all floats (math_test walks them); NaN stays NaN, inf and 0 at the ends.
template <>
FROST_HD float exp<float>(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;         // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  x = x < -104.0f ? -104.0f : x;                // e^-104 rounds to 0, e^89 overflows: n stays small (NaN passes through)
  x = x > 89.0f ? 89.0f : x;
  const float shifted = x * kLog2e + kRound, n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.38888889e-3f + r * 1.98412698e-4f;  // Taylor's terms to r^7: below 2^-27 of e^r on this range
  p = 8.33333333e-3f + r * p;
  p = 4.16666667e-2f + r * p;
  p = 1.66666667e-1f + r * p;
  p = 0.5f + r * p;
  p = 1.0f + (r + r * r * p);
  // Unsigned arithmetic: for NaN, n is garbage and may wrap, and p is NaN whatever it is multiplied with.
  const auto power = bits_as<std::uint32_t>(shifted) - bits_as<std::uint32_t>(kRound);
  const auto half = static_cast<std::uint32_t>(bits_as<std::int32_t>(power) >> 1);
  return p * bits_as<float>((half + 127u) << 23) * bits_as<float>((power - half + 127u) << 23);
}

}  // namespace frost::math
