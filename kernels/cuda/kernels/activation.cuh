#pragma once
#include <type_traits>

#include "kernels/activation.h"
#include "kernels/math/activation.h"

namespace frost::cuda {

/// use(std::integral_constant<ActivationKind, kind>{}), chosen in the kernel: all threads take the same branch, and kernels
/// that wait for memory need not be there once for each kind.
template <class Use>
FROST_HD float with_kind(ActivationKind kind, const Use& use) {
  using enum ActivationKind;
  switch (kind) {
    case silu:
      return use(std::integral_constant<ActivationKind, silu>{});
    case relu:
      return use(std::integral_constant<ActivationKind, relu>{});
    case leaky_relu:
      return use(std::integral_constant<ActivationKind, leaky_relu>{});
    case hardswish:
      return use(std::integral_constant<ActivationKind, hardswish>{});
    case sigmoid:
      return use(std::integral_constant<ActivationKind, sigmoid>{});
    case mish:
      return use(std::integral_constant<ActivationKind, mish>{});
    case relu6:
      return use(std::integral_constant<ActivationKind, relu6>{});
    case hardsigmoid:
      return use(std::integral_constant<ActivationKind, hardsigmoid>{});
    case identity:
      break;
  }
  return use(std::integral_constant<ActivationKind, identity>{});
}

FROST_HD float activate(const Activation& a, float z) {
  return with_kind(a.kind, [&](auto kind) { return math::activate<decltype(kind)::value>(z, a.slope); });
}
FROST_HD float activation_slope(const Activation& a, float z) {
  return with_kind(a.kind, [&](auto kind) { return math::activation_slope<decltype(kind)::value>(z, a.slope); });
}

}  // namespace frost::cuda
