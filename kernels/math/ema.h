#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// Decay of the n-th average (n from 1): 0.9999 (1 - exp(-n / 2000)) (docs/spec/train.md section 8).
FROST_HD double ema_decay(std::int64_t update) { return 0.9999 * (1.0 - std::exp(-static_cast<double>(update) / 2000.0)); }

/// An exponential moving average's step towards `value`.
template <class T>
FROST_HD T ema_update(T ema, T value, T decay) {
  return decay * ema + (T(1) - decay) * value;
}

}  // namespace frost::math
