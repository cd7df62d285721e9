#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/activation.h"
#include "kernels/math/half.h"
#include "kernels/view.h"

/// From run-time types to templates: use(value of the type) is called for the one that a view holds.
namespace frost {

/// Activations: f32, bf16, f16.
template <class Use>
void with_float(DType dtype, const char* what, const Use& use) {
  switch (dtype) {
    case DType::f32:
      return use(float{});
    case DType::bf16:
      return use(math::bf16{});
    case DType::f16:
      return use(math::f16{});
    default:
      fail(what, ": no activations of type ", name_of(dtype));
  }
}

/// An unsigned type of the same size: data that is only moved.
template <class Use>
void with_bits(DType dtype, const Use& use) {
  switch (size_of(dtype)) {
    case 1:
      return use(std::uint8_t{});
    case 2:
      return use(std::uint16_t{});
    case 4:
      return use(std::uint32_t{});
    default:
      return use(std::uint64_t{});
  }
}

/// The kind as a constant: use(std::integral_constant<ActivationKind, kind>{}).
template <class Use>
void with_activation(ActivationKind kind, const Use& use) {
  using enum ActivationKind;
  switch (kind) {
    case identity:
      return use(std::integral_constant<ActivationKind, identity>{});
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
  }
}

}  // namespace frost
