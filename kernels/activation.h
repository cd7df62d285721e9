#pragma once
#include <compare>
#include <cstdint>

namespace frost {

enum class ActivationKind : std::uint8_t { identity, silu, relu, leaky_relu, hardswish, sigmoid, mish, relu6, hardsigmoid };

/// An elementwise activation. `slope` is leaky_relu's factor for negative values; the others ignore it.
struct Activation {
  ActivationKind kind = ActivationKind::identity;
  float slope = 0.1f;
  auto operator<=>(const Activation&) const = default;
};

}  // namespace frost
