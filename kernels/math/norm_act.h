#pragma once
#include "kernels/math/activation.h"

/// y = activation(z), z = weight * xhat + bias, xhat = (x - mean) * rstd: one element, and the pieces of its derivative.
namespace frost::math {

template <class T>
struct NormChannel {
  T mean, rstd, weight, bias;
};

/// x - mean comes first (and is not fused into the bias): exact where it matters, a mean far larger than the standard
/// deviation.
template <class T>
FROST_HD T normalise(T x, NormChannel<T> c) {
  return (x - c.mean) * c.rstd;
}

template <class T>
FROST_HD T affine(T xhat, NormChannel<T> c) {
  return c.weight * xhat + c.bias;
}

template <ActivationKind kind, class T>
FROST_HD T norm_act(T x, NormChannel<T> c, T slope) {
  return activate<kind>(affine(normalise(x, c), c), slope);
}

/// The same with a residual before the activation, and the gradient that z and the residual share.
template <ActivationKind kind, class T>
FROST_HD T norm_add_act(T x, T residual, NormChannel<T> c, T slope) {
  return activate<kind>(affine(normalise(x, c), c) + residual, slope);
}
template <ActivationKind kind, class T>
FROST_HD T norm_add_act_grad(T x, T residual, T dy, NormChannel<T> c, T slope) {
  return dy * activation_slope<kind>(affine(normalise(x, c), c) + residual, slope);
}

/// The gradient of z and the normalised value; a channel's sums of dz and dz * xhat are dbias and dweight.
template <class T>
struct NormActGrad {
  T dz, xhat;
};
template <ActivationKind kind, class T>
FROST_HD NormActGrad<T> norm_act_grad(T x, T dy, NormChannel<T> c, T slope) {
  const T xhat = normalise(x, c);
  return {dy * activation_slope<kind>(affine(xhat, c), slope), xhat};
}

/// dx. mean and rstd of a batch depend on x as well: the channel's means of dz and of dz * xhat carry that dependence;
/// with running statistics both are 0.
template <class T>
FROST_HD T norm_dx(NormActGrad<T> g, T mean_dz, T mean_dz_xhat, NormChannel<T> c) {
  return c.weight * c.rstd * (g.dz - (mean_dz + g.xhat * mean_dz_xhat));
}

/// 1 / sqrt(variance + eps), and the unbiased variance of `count` values that running statistics keep.
template <class T>
FROST_HD T reciprocal_std(T variance, T eps) {
  return T(1) / std::sqrt(variance + eps);
}
template <class T>
FROST_HD T unbiased(T variance, T count) {
  return variance * (count / (count - T(1)));
}
template <class T>
FROST_HD T moving_average(T old, T value, T momentum) {
  return (T(1) - momentum) * old + momentum * value;
}

}  // namespace frost::math
