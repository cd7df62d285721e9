#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// The loss scale of f16 training: the rule and the numbers of PyTorch's GradScaler.
inline constexpr float kFirstLossScale = 65536, kScaleGrowth = 2, kScaleBackoff = 0.5f;
inline constexpr std::int32_t kGrowthInterval = 2000;  // good steps in a row

struct LossScale {
  float scale = 1;
  std::int32_t good_steps = 0;  // since the scale last changed
};

/// After a step: halved where the gradients were not finite, doubled after kGrowthInterval good steps in a row (unless the
/// doubled scale is infinite).
FROST_HD LossScale next_loss_scale(LossScale now, bool finite) {
  if (!finite) return {now.scale * kScaleBackoff, 0};
  if (now.good_steps + 1 < kGrowthInterval) return {now.scale, now.good_steps + 1};
  const float grown = now.scale * kScaleGrowth;
  return {std::isfinite(grown) ? grown : now.scale, 0};
}

/// What the step multiplies gradients with: min(1, clip / (norm + 1e-6)), and the loss scale taken out. `norm` is the
/// gradients' own, without the loss scale; clip <= 0: not clipped.
FROST_HD float step_gradient_scale(double norm, double clip, float loss_scale) {
  const double limit = clip > 0 ? clip / (norm + 1e-6) : 1.0;
  return static_cast<float>((limit < 1.0 ? limit : 1.0) / loss_scale);
}

}  // namespace frost::math
