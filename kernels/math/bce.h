#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

template <class T>
struct LossTerm {
  T value, slope;  // the loss of one logit and its derivative for the logit
};

/// Binary cross entropy of one logit x against a target in [0, 1] (docs/spec/loss.md section 3.4), written as a sum of terms
/// that are not negative, so that nothing cancels: (1 - t) softplus(x) + pw t softplus(-x). gamma > 0 wraps it in the focal
/// loss (docs/spec/loss.md section 3.5): times (t a + (1 - t)(1 - a)) miss^gamma, where miss = 1 - p_t is the probability
/// that is given to the wrong answer, and a = 0.25.
template <class T>
FROST_HD LossTerm<T> bce_with_logits(T x, T target, T pos_weight, T gamma) {
  const T e = std::exp(-std::abs(x)), tail = std::log1p(e);  // one logit at a time the library is the faster exp
  const T near = 1 / (1 + e), far = e / (1 + e);             // sigmoid(|x|) and sigmoid(-|x|): neither loses digits near 0
  const T s = x >= 0 ? near : far, not_s = x >= 0 ? far : near;
  const T wrong = 1 - target, right = pos_weight * target;
  const T value = wrong * (tail + (x > 0 ? x : T(0))) + right * (tail + (x < 0 ? -x : T(0)));
  const T slope = wrong * s - right * not_s;
  if (!(gamma > 0)) return {value, slope};

  const T miss = target * not_s + wrong * s;
  if (!(miss > 0)) return {T(0), T(0)};  // a certain and true answer; also the limit, and pow(0, gamma - 1) is none
  const T alpha = T(0.25) * target + T(0.75) * wrong;
  const T factor = alpha * std::pow(miss, gamma);
  const T d_factor = gamma * factor / miss * (1 - 2 * target) * s * not_s;
  return {value * factor, slope * factor + value * d_factor};
}

}  // namespace frost::math
