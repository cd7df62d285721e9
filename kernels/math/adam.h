#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// The constants of one step: step_size = lr / (1 - beta1^t), root_scale = 1 / sqrt(1 - beta2^t), shrink = 1 - lr * decay
/// for AdamW (decay = 0 then), 1 for Adam.
template <class T>
struct AdamRule {
  T step_size, root_scale, beta1, beta2, eps, decay, shrink, grad_scale;
};
FROST_HD double adam_step_size(double lr, double beta1, std::int64_t step) {
  return lr / (1 - std::pow(beta1, static_cast<double>(step)));
}
FROST_HD double adam_root_scale(double beta2, std::int64_t step) {
  return 1 / std::sqrt(1 - std::pow(beta2, static_cast<double>(step)));
}

template <class T>
FROST_HD AdamRule<T> adam_rule(double lr, T step_size, T root_scale, double beta1, double beta2, double eps,
                               double weight_decay, double grad_scale, bool decoupled) {
  return {step_size,
          root_scale,
          static_cast<T>(beta1),
          static_cast<T>(beta2),
          static_cast<T>(eps),
          static_cast<T>(decoupled ? 0 : weight_decay),
          static_cast<T>(decoupled ? 1 - lr * weight_decay : 1),
          static_cast<T>(grad_scale)};
}

template <class T>
FROST_HD void adam_update(T& value, T& exp_avg, T& exp_avg_sq, T grad, AdamRule<T> rule) {
  const T g = rule.grad_scale * grad + rule.decay * value;
  exp_avg = rule.beta1 * exp_avg + (T(1) - rule.beta1) * g;
  exp_avg_sq = rule.beta2 * exp_avg_sq + (T(1) - rule.beta2) * g * g;
  value = rule.shrink * value - rule.step_size * exp_avg / (std::sqrt(exp_avg_sq) * rule.root_scale + rule.eps);
}

}  // namespace frost::math
