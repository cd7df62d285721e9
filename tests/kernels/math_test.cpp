#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/math/activation.h"
#include "kernels/math/exp.h"
#include "kernels/math/half.h"

using namespace frost::math;

namespace {
/// The distance between neighbouring floats at `value`.
double ulp(double value) {
  const int exponent = value == 0 ? -126 : std::max(std::ilogb(value), -126);
  return std::ldexp(1.0, exponent - 23);
}
constexpr float kInf = std::numeric_limits<float>::infinity();
}  // namespace

TEST_CASE("exp: within 1.2 ulp of std::exp in double over all floats") {
  double worst = 0;
  bool ends_agree = true, nan_stays = true;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 997) {  // 4.3 million, every exponent
    const float x = bits_as<float>(static_cast<std::uint32_t>(bits));
    const float got = frost::math::exp(x);
    if (std::isnan(x)) {
      nan_stays &= std::isnan(got);
      continue;
    }
    const double want = std::exp(static_cast<double>(x));
    if (want >= 3.40282357e38 || std::isinf(got))
      ends_agree &= got == static_cast<float>(want);
    else
      worst = std::max(worst, std::abs(got - want) / ulp(want));
  }
  CHECK(nan_stays);
  CHECK(ends_agree);
  CHECK(worst < 1.2);
  for (float x = -104; x < 89; x += 0.00037f)  // where the values are neither 0, 1 nor infinite
    if (std::abs(frost::math::exp(x) - std::exp(double(x))) >= 1.2 * ulp(std::exp(double(x))) && x < 88.7f)
      FAIL("exp(", x, ")");
  CHECK(frost::math::exp(0.0f) == 1.0f);
  CHECK(frost::math::exp(kInf) == kInf);
  CHECK(frost::math::exp(-kInf) == 0.0f);
  CHECK(frost::math::exp(-103.0f) == std::numeric_limits<float>::denorm_min());
  CHECK(frost::math::exp(0.5) == std::exp(0.5));  // double: the library's
}

TEST_CASE("sigmoid: within 3 ulp, its ends and NaN") {
  double worst = 0;
  for (float z = -87; z < 100; z += 0.00071f) {
    const double want = 1 / (1 + std::exp(-double(z)));
    worst = std::max(worst, std::abs(sigmoid(z) - want) / ulp(want));
  }
  CHECK(worst < 3);
  CHECK(sigmoid(0.0f) == 0.5f);
  CHECK(sigmoid(kInf) == 1.0f);
  CHECK(sigmoid(-kInf) == 0.0f);
  CHECK(sigmoid(-1e30f) == 0.0f);
  CHECK(std::isnan(sigmoid(std::nanf(""))));
  CHECK(activate<frost::ActivationKind::silu>(-1e30f, 0.0f) == 0.0f);
  CHECK(activate<frost::ActivationKind::silu>(1e30f, 0.0f) == 1e30f);
  CHECK(silu_slope(-1e4f) == 0.0f);
  CHECK(silu_slope(1e4f) == 1.0f);
}

TEST_CASE("mish: its closed form and derivative, its ends and NaN") {
  double worst = 0, worst_slope = 0, worst_difference = 0;
  for (float z = -30; z < 60; z += 0.00071f) {
    const double t = std::tanh(std::log1p(std::exp(double(z)))), s = 1 / (1 + std::exp(-double(z)));
    const double want = z * t, slope = t + z * s * (1 - t * t);
    worst = std::max(worst, std::abs(mish(z) - want) / ulp(want));
    worst_slope = std::max(worst_slope, std::abs(mish_slope(z) - slope));
  }
  for (double z = -30; z < 60; z += 0.0137) {  // in double, by central differences
    const double h = 1e-5, difference = (mish(z + h) - mish(z - h)) / (2 * h);
    worst_difference = std::max(worst_difference, std::abs(mish_slope(z) - difference));
  }
  CHECK(worst < 6);
  CHECK(worst_slope < 1e-6);
  CHECK(worst_difference < 1e-8);
  CHECK(mish(0.0f) == 0.0f);
  CHECK(mish_slope(0.0f) == doctest::Approx(0.6));
  CHECK(mish(1e30f) == 1e30f);
  CHECK(mish(-1e30f) == 0.0f);
  CHECK(mish_slope(1e30f) == 1.0f);
  CHECK(mish_slope(-1e30f) == 0.0f);
  CHECK(std::isnan(mish(std::nanf(""))));
  CHECK(std::isnan(mish_slope(std::nanf(""))));
}

TEST_CASE("bf16: exact back, nearest with ties to even, infinity and NaN") {
  const auto round = [](float x) { return to_float(from_float<bf16>(x)); };
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const float x = to_float(bf16{static_cast<std::uint16_t>(h)});
    if (std::isnan(x))
      REQUIRE(std::isnan(round(x)));
    else
      REQUIRE(from_float<bf16>(x).bits == h);
  }
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4099) {
    const float x = bits_as<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(x)) {
      REQUIRE(std::isnan(round(x)));
      continue;
    }
    if (std::abs(x) > 3.38e38f) continue;  // may round to infinity
    const double step = std::ldexp(1.0, x == 0 ? -133 : std::max(std::ilogb(x), -126) - 7);
    REQUIRE(round(x) == std::nearbyint(x / step) * step);
  }
  CHECK(round(1.0f + 0x1p-8f) == 1.0f);                // tie: to the even mantissa below
  CHECK(round(1.0f + 3 * 0x1p-8f) == 1.0f + 0x1p-6f);  // tie: to the even mantissa above
  CHECK(round(kInf) == kInf);
  CHECK(round(3.4e38f) == kInf);
  CHECK(
      std::isnan(to_float(from_float<bf16>(bits_as<float>(0x7f800001u)))));  // its payload lies in the bits that are cut off
  CHECK(std::signbit(round(-0.0f)));
}

TEST_CASE("f16: exact back, nearest with ties to even, subnormals, infinity and NaN") {
  const auto round = [](float x) { return to_float(from_float<f16>(x)); };
  for (std::uint32_t h = 0; h < 65536; ++h) {
    const float x = to_float(f16{static_cast<std::uint16_t>(h)});
    const int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
    if (exponent == 31)
      REQUIRE((mantissa ? std::isnan(x) : std::isinf(x)));
    else {
      const double want =
          (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24)) * (h >> 15 ? -1 : 1);
      REQUIRE(x == want);
    }
    if (std::isnan(x))
      REQUIRE(std::isnan(round(x)));
    else
      REQUIRE(from_float<f16>(x).bits == h);
  }
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4099) {
    const float x = bits_as<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(x)) {
      REQUIRE(std::isnan(round(x)));
      continue;
    }
    if (std::abs(x) >= 65520.0f) {
      REQUIRE(std::isinf(round(x)));
      continue;
    }
    const double step = std::ldexp(1.0, x == 0 ? -24 : std::max(std::ilogb(x), -14) - 10);
    REQUIRE(round(x) == std::nearbyint(x / step) * step);
  }
  CHECK(round(65519.0f) == 65504.0f);
  CHECK(round(0x1p-25f) == 0.0f);  // tie between 0 and the smallest: to even
  CHECK(round(1.5f * 0x1p-25f) == 0x1p-24f);
  CHECK(std::signbit(round(-0.0f)));
}
