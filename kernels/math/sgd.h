#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// The constants of one step: buffer = carry * buffer + g; value -= lr * (own * g + ahead * buffer). Plain numbers instead
/// of flags, so that the loop has no branches.
template <class T>
struct SgdRule {
  T lr, decay, grad_scale, carry, own, ahead;
};
template <class T>
FROST_HD SgdRule<T> sgd_rule(T lr, T momentum, T weight_decay, T grad_scale, bool nesterov, bool first_step) {
  return {lr, weight_decay, grad_scale, first_step ? T(0) : momentum, nesterov ? T(1) : T(0), nesterov ? momentum : T(1)};
}

/// One value's step (docs/spec/train.md section 5). The first step starts the buffer with the gradient, whatever it held
/// before.
template <class T>
FROST_HD void sgd_update(T& value, T& buffer, T grad, SgdRule<T> rule) {
  const T g = rule.grad_scale * grad + rule.decay * value;
  const T moved = rule.carry * buffer + g;
  buffer = rule.carry != T(0) ? moved : g;
  value -= rule.lr * (rule.own * g + rule.ahead * buffer);
}

}  // namespace frost::math
