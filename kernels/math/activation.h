#pragma once
#include "kernels/activation.h"
#include "kernels/math/exp.h"

/// Activations of z and their derivatives as functions of z, so that z (or what z is rebuilt from) is all that a
/// backward needs. Kinks as PyTorch has them: relu'(0) = 0, leaky_relu'(0) = slope; hardswish' is 0 at -3 and 1 at +3.
namespace frost::math {

template <class T>
FROST_HD T sigmoid(T z) {
  return inverse_normal(T(1) + exp_normal(-z));
}

template <class T>
FROST_HD T silu_slope(T z) {  // s + z s (1 - s)
  const T s = sigmoid(z);
  return s * (T(1) + z * (T(1) - s));
}

template <class T>
FROST_HD T clamp(T z, T low, T high) {
  return z < low ? low : (z > high ? high : z);
}  // NaN stays NaN

template <ActivationKind kind, class T>
FROST_HD T activate(T z, [[maybe_unused]] T slope) {
  if constexpr (kind == ActivationKind::silu)
    return z * sigmoid(z);
  else if constexpr (kind == ActivationKind::relu)
    return z < T(0) ? T(0) : z;  // NaN stays NaN
  else if constexpr (kind == ActivationKind::leaky_relu)
    return z * (z > T(0) ? T(1) : slope);
  else if constexpr (kind == ActivationKind::hardswish)
    return z * clamp(z + T(3), T(0), T(6)) * T(1.0 / 6);
  else if constexpr (kind == ActivationKind::sigmoid)
    return sigmoid(z);
  else
    return z;
}

/// d activate(z) / dz.
template <ActivationKind kind, class T>
FROST_HD T activation_slope(T z, [[maybe_unused]] T slope) {
  if constexpr (kind == ActivationKind::silu)
    return silu_slope(z);
  else if constexpr (kind == ActivationKind::relu)
    return z > T(0) ? T(1) : T(0);
  else if constexpr (kind == ActivationKind::leaky_relu)
    return z > T(0) ? T(1) : slope;
  else if constexpr (kind == ActivationKind::hardswish)
    return z >= T(3) ? T(1) : (z <= T(-3) ? T(0) : z * T(1.0 / 3) + T(0.5));
  else if constexpr (kind == ActivationKind::sigmoid) {
    const T s = sigmoid(z);
    return s * (T(1) - s);
  } else
    return T(1);
}

}  // namespace frost::math
