#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

template <class T>
FROST_HD T exp(T x) {
  return std::exp(x);
}

/// x = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite: ln 2 in two parts, the first with 9 bits, so that n times it is
/// exact); mantissa = e^r by a polynomial. Plain arithmetic, so that a loop around it becomes vector code; std::exp stays a
/// call without -ffast-math.
struct ExpParts {
  float mantissa;
  std::uint32_t power;  // n in two's complement: unsigned, since it is garbage for NaN and may wrap
};
FROST_HD ExpParts exp_parts(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float shifted = x * kLog2e + kRound, n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.38888889e-3f + r * 1.98412698e-4f;  // Taylor's terms to r^7: the rest is below 2^-27 of e^r on this range
  p = 8.33333333e-3f + r * p;
  p = 4.16666667e-2f + r * p;
  p = 1.66666667e-1f + r * p;
  p = 0.5f + r * p;
  return {1.0f + (r + r * r * p), bits_as<std::uint32_t>(shifted) - bits_as<std::uint32_t>(kRound)};
}
FROST_HD float power_of_two(std::uint32_t n) { return bits_as<float>((n + 127u) << 23); }

/// e^x for any float, within 1.2 ulp (math_test checks all): NaN stays NaN, infinity and 0 at the ends. The scale is
/// applied in two steps, so that results below the normal range are rounded and not flushed.
template <>
FROST_HD float exp<float>(float x) {
  x = x < -104.0f ? -104.0f : x;  // e^-104 rounds to 0 and e^89 overflows: n stays small, and NaN passes through
  x = x > 89.0f ? 89.0f : x;
  const auto [mantissa, power] = exp_parts(x);
  const auto half = static_cast<std::uint32_t>(static_cast<std::int32_t>(power) >> 1);
  return mantissa * power_of_two(half) * power_of_two(power - half);
}

/// e^x as the sigmoid needs it, five operations cheaper: not below 2^-126, infinite from e^88.4 (2^127.5) on.
template <class T>
FROST_HD T exp_normal(T x) {
  return exp(x);
}
template <>
FROST_HD float exp_normal<float>(float x) {
#if defined(__CUDA_ARCH__)
  return __expf(x);  // 3 instructions for 15; off by 2 ulp + |x| 2^-24: the sigmoid keeps 1e-6 where it is above 1e-8
#else
  x = x < -87.0f ? -87.0f : x;
  x = x > 89.0f ? 89.0f : x;  // n = 128 makes the exponent's bits those of infinity
  const auto [mantissa, power] = exp_parts(x);
  return mantissa * power_of_two(power);
#endif
}

/// 1 / x for the sigmoid, x >= 1: on a GPU one instruction (off by 1 ulp) instead of a division's ten.
template <class T>
FROST_HD T inverse_normal(T x) {
  return T(1) / x;
}
template <>
FROST_HD float inverse_normal<float>(float x) {
#if defined(__CUDA_ARCH__)
  return __fdividef(1.0f, x);
#else
  return 1.0f / x;
#endif
}

}  // namespace frost::math
