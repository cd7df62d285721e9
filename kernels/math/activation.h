#pragma once
#include "kernels/activation.h"
#include "kernels/math/exp.h"

/// Activations of z and their derivatives as functions of z, so that z (or what z is rebuilt from) is all that a
/// backward needs. Kinks as PyTorch has them: relu'(0) = 0, leaky_relu'(0) = slope; hardswish' is 0 at -3 and 1 at +3;
/// relu6' is 0 at 0 and 6, hardsigmoid' at -3 and 3.
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

/// mish(z) = z tanh(ln(1 + e^z)) = z n / (n + 2) with n = e^z (e^z + 2). From z = 20 on, n / (n + 2) is 1 in double too, and
/// the square of n + 2 below still fits a float.
template <class T>
FROST_HD T mish(T z) {
  const T e = exp(z > T(20) ? T(20) : z), n = e * (e + T(2));
  return z * (n / (n + T(2)));
}
template <class T>
FROST_HD T mish_slope(T z) {  // tanh(s) + z sigmoid(z) (1 - tanh(s)^2), s = ln(1 + e^z)
  const T e = exp(z > T(20) ? T(20) : z), n = e * (e + T(2)), d = n + T(2);
  return n / d + (z > T(20) ? T(0) : z * (T(4) * e * (e + T(1)) / (d * d)));
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
  else if constexpr (kind == ActivationKind::mish)
    return mish(z);
  else if constexpr (kind == ActivationKind::relu6)
    return clamp(z, T(0), T(6));
  else if constexpr (kind == ActivationKind::hardsigmoid)
    return clamp(z + T(3), T(0), T(6)) * T(1.0 / 6);
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
  } else if constexpr (kind == ActivationKind::mish)
    return mish_slope(z);
  else if constexpr (kind == ActivationKind::relu6)
    return z > T(0) && z < T(6) ? T(1) : T(0);
  else if constexpr (kind == ActivationKind::hardsigmoid)
    return z > T(-3) && z < T(3) ? T(1.0 / 6) : T(0);
  else
    return T(1);
}

}  // namespace frost::math
