#pragma once
#include "kernels/math/exp.h"

namespace frost::math {

/// y = softmax(x): dx = y (dy - sum(y dy)).
template <class T>
FROST_HD T softmax_dx(T y, T dy, T sum_y_dy) {
  return y * (dy - sum_y_dy);
}

/// y = log softmax(x): dx = dy - e^y sum(dy).
template <class T>
FROST_HD T log_softmax_dx(T y, T dy, T sum_dy) {
  return dy - exp(y) * sum_dy;
}

/// The label's share of a smoothed target: (1 - e) onehot + e / classes.
template <class T>
FROST_HD T smooth_target(bool is_label, T smoothing, T classes) {
  return (is_label ? T(1) - smoothing : T(0)) + smoothing / classes;
}

}  // namespace frost::math
