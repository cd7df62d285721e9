#pragma once
#include "kernels/math/portable.h"

/// The 16-bit floating point types as plain bits, and their conversions in integer arithmetic that vectorises. A GPU has an
/// instruction for each, with the same results but for the bits of a NaN.
namespace frost::math {

struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};

FROST_HD float to_float(float x) { return x; }
FROST_HD float to_float(bf16 x) { return bits_as<float>(static_cast<std::uint32_t>(x.bits) << 16); }

/// Exact: every f16 is a float. The exponent is rebased by a multiplication, which also makes subnormals normal.
FROST_HD float to_float(f16 x) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
#else
  const std::uint32_t sign = (x.bits & 0x8000u) << 16, magnitude = x.bits & 0x7fffu;
  const float scaled = bits_as<float>(magnitude << 13) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;  // inf, NaN: exponent all ones
  return bits_as<float>(bits_as<std::uint32_t>(scaled) | special | sign);
#endif
}

/// From float, to the nearest, ties to even. NaN stays a (quiet) NaN, values beyond the largest become infinite.
template <class T>
FROST_HD T from_float(float x);

template <>
FROST_HD float from_float<float>(float x) {
  return x;
}

template <>
FROST_HD bf16 from_float<bf16>(float x) {
#if defined(__CUDA_ARCH__)
  bf16 narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
  return narrow;
#else
  const auto u = bits_as<std::uint32_t>(x);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const std::uint32_t quiet = (u >> 16) | 0x40u;
  return {static_cast<std::uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded)};
#endif
}

template <>
FROST_HD f16 from_float<f16>(float x) {
#if defined(__CUDA_ARCH__)
  f16 narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
  return narrow;
#else
  const auto u = bits_as<std::uint32_t>(x);
  const std::uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 1/2 leaves the value, in units of 2^-24 and rounded to even by the adder, in the low bits.
  const std::uint32_t subnormal = bits_as<std::uint32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000u;
  std::uint32_t h = magnitude < 0x38800000u ? subnormal : normal;
  h = magnitude >= 0x477ff000u ? 0x7c00u : h;  // 65520 and more round to infinity
  h = magnitude > 0x7f800000u ? 0x7e00u | ((magnitude >> 13) & 0x3ffu) : h;
  return {static_cast<std::uint16_t>(sign | h)};
#endif
}

}  // namespace frost::math
