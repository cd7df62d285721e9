#pragma once
#include <cstdint>

namespace frost {

/// One SGD step with Nesterov momentum over a flat arena of parameters (spec/train.md section 5):
/// g = grad_scale * grad + weight_decay * value; buf = first_step ? g : momentum * buf + g; value -= lr * (g + momentum *
/// buf); value and buf are multiplied by mask where there is one; ema = ema_decay * ema + (1 - ema_decay) * value. Floor:
/// reads value, grad, buf, ema once, writes value, buf, ema once.
struct SgdStep {
  float *value = nullptr, *momentum_buffer = nullptr;
  const float* grad = nullptr;
  const float* mask = nullptr;  // 0 or 1, or null
  float* ema = nullptr;         // or null
  std::int64_t count = 0;
  float lr = 0, momentum = 0, weight_decay = 0, grad_scale = 1, ema_decay = 0;
  bool nesterov = true, first_step = false;
};

/// Adam (decay added to the gradient) or AdamW (decoupled), bias-corrected; `step` counts from 1.
struct AdamStep {
  float *value = nullptr, *exp_avg = nullptr, *exp_avg_sq = nullptr;
  const float* grad = nullptr;
  const float* mask = nullptr;
  float* ema = nullptr;
  std::int64_t count = 0, step = 1;
  float lr = 0, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, weight_decay = 0, grad_scale = 1, ema_decay = 0;
  bool decoupled = false;
};

/// ema = decay * ema + (1 - decay) * value.
struct EmaUpdate {
  float* ema = nullptr;
  const float* value = nullptr;
  std::int64_t count = 0;
  float decay = 0;
};

}  // namespace frost
