#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "kernels/math/activation.h"
#include "kernels/math/bce.h"
#include "kernels/math/decode.h"
#include "kernels/math/half.h"
#include "kernels/math/image.h"
#include "kernels/math/norm_act.h"
#include "kernels/math/softmax.h"

// Every formula as a kernel with 16-bit tensors runs it: a 16-bit value widened to float, the formula in float, the result
// rounded to 16 bits. All 65536 inputs, against the same template in double. Half a unit in the last place is the rounding's
// own error; what float adds is bounded by 2^-20 of the terms' size, which is a 512th of a unit of f16 and less of bf16.
using namespace frost;
using namespace frost::math;

namespace {

template <class H>
constexpr int kDigits = 0;  // after the leading one
template <>
constexpr int kDigits<f16> = 10;
template <>
constexpr int kDigits<bf16> = 7;
template <class H>
double step(double value) {  // between neighbouring numbers of type H
  const int lowest = std::is_same_v<H, f16> ? -14 : -126;
  return std::ldexp(1.0, (value == 0 ? lowest : std::max(std::ilogb(value), lowest)) - kDigits<H>);
}
template <class H>
double largest() {
  return std::is_same_v<H, f16> ? 65504.0 : std::ldexp(255.0, 120);
}

/// formula(x) is a template over the type of x. `terms(x)`: the size of what the result is a sum of, in double.
template <class H, class Formula, class Terms>
void check(const std::string& name, const Formula& formula, const Terms& terms) {
  int wrong = 0;
  double first = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float x = to_float(H{static_cast<std::uint16_t>(bits)});
    if (std::isfinite(x) && std::abs(x) > 1e15f) continue;  // squares of such values overflow in float, not in double
    const double exact = formula(static_cast<double>(x));
    const double got = to_float(from_float<H>(formula(x)));
    bool right = false;
    if (std::isnan(exact) || std::isnan(got))
      right = std::isnan(exact) && std::isnan(got);
    else if (std::isinf(got))
      right = std::abs(exact) + 0.5 * step<H>(largest<H>()) >= largest<H>() * (1 - 1e-6) && (got > 0) == (exact > 0);
    else  // 1e-36: exp_normal has no subnormals
      right = std::abs(got - exact) <= 0.5 * step<H>(exact) * (1 + 1e-6) + 0x1p-20 * terms(std::abs(double(x))) + 1e-36;
    if (!right && wrong++ == 0) first = x;
  }
  INFO(name, ": the first of ", wrong, " wrong results is that of ", first);
  CHECK(wrong == 0);
}

template <class H>
void check_all() {
  const auto like_x = [](double x) { return std::isfinite(x) ? 1 + x : 1.0; };
  const auto squared = [](double x) { return std::isfinite(x) ? 1 + x * x : 1.0; };
  const auto activation = [&]<ActivationKind kind>(const char* name) {
    check<H>(
        name, [](auto z) { return activate<kind>(z, decltype(z)(0.125)); }, like_x);
    check<H>(
        std::string(name) + "'", [](auto z) { return activation_slope<kind>(z, decltype(z)(0.125)); },
        [](double x) { return std::isfinite(x) && x < 100 ? 1 + x : 1.0; });
    // A channel as batch norm has it; the numbers are exact in every type.
    check<H>(
        std::string("norm and ") + name,
        [](auto x) {
          using T = decltype(x);
          return norm_act<kind>(x, NormChannel<T>{T(0.25), T(1.5), T(-0.75), T(0.5)}, T(0.125));
        },
        like_x);
    check<H>(
        std::string("norm, residual and ") + name,
        [](auto x) {
          using T = decltype(x);
          return norm_add_act<kind>(x, T(-1.5), NormChannel<T>{T(0.25), T(1.5), T(-0.75), T(0.5)}, T(0.125));
        },
        like_x);
    check<H>(
        std::string("gradient of norm and ") + name,
        [](auto x) {
          using T = decltype(x);
          const NormChannel<T> c{T(0.25), T(1.5), T(-0.75), T(0.5)};
          return norm_dx(norm_act_grad<kind>(x, T(1.25), c, T(0.125)), T(0.0625), T(-0.03125), c);
        },
        like_x);
  };
  activation.template operator()<ActivationKind::identity>("identity");
  activation.template operator()<ActivationKind::silu>("silu");
  activation.template operator()<ActivationKind::relu>("relu");
  activation.template operator()<ActivationKind::leaky_relu>("leaky_relu");
  activation.template operator()<ActivationKind::hardswish>("hardswish");
  activation.template operator()<ActivationKind::sigmoid>("sigmoid");
  activation.template operator()<ActivationKind::mish>("mish");
  activation.template operator()<ActivationKind::relu6>("relu6");
  activation.template operator()<ActivationKind::hardsigmoid>("hardsigmoid");

  check<H>(
      "softmax dx", [](auto dy) { return softmax_dx(decltype(dy)(0.375), dy, decltype(dy)(-0.5)); }, like_x);
  check<H>(
      "log softmax dx", [](auto dy) { return log_softmax_dx(decltype(dy)(-1.5), dy, decltype(dy)(0.75)); }, like_x);
  check<H>(
      "box centre", [](auto z) { return decode_centre(sigmoid(z), decltype(z)(37), decltype(z)(16)); },
      [](double) { return 39.0 * 16; });
  check<H>(
      "box size", [](auto z) { return decode_size(sigmoid(z), decltype(z)(3.25), decltype(z)(16)); },
      [](double) { return 4.0 * 52; });
  for (const double gamma : {0.0, 1.5}) {
    check<H>(
        "BCE", [=](auto x) { return bce_with_logits<decltype(x)>(x, 0.25, 1.5, decltype(x)(gamma)).value; }, squared);
    check<H>(
        "BCE'", [=](auto x) { return bce_with_logits<decltype(x)>(x, 0.25, 1.5, decltype(x)(gamma)).slope; }, like_x);
  }
}

}  // namespace

TEST_CASE("formulas through f16: every input, nearest result") { check_all<f16>(); }
TEST_CASE("formulas through bf16: every input, nearest result") { check_all<bf16>(); }

TEST_CASE("image bytes through f16 and bf16") {
  for (int byte = 0; byte < 256; ++byte) {
    const double exact = byte / 255.0;
    const float value = image_value(static_cast<float>(byte));
    CHECK(std::abs(to_float(from_float<f16>(value)) - exact) <= 0.5 * step<f16>(exact) * (1 + 1e-3));
    CHECK(std::abs(to_float(from_float<bf16>(value)) - exact) <= 0.5 * step<bf16>(exact) * (1 + 1e-3));
  }
}
