#pragma once
#include <cstdint>

#include "kernels/math/adam.h"
#include "kernels/math/ema.h"
#include "kernels/math/grad_scaler.h"

namespace frost {

/// The largest number of parameter groups, each with its own learning rate, in one optimizer.
inline constexpr int kStepGroups = 32;

/// The state of one training run's steps, in device memory. So the host can queue a step without waiting for the gradients'
/// norm, and a captured step can be replayed. Read it with Backend::download.
struct UpdateState {
  double sum_of_squares = 0;                // gathered by sum_of_squares, taken by prepare_step
  double norm = 0;                          // of the last step's gradients, before clipping, without the loss scale
  std::int64_t steps = 0, ema_updates = 0;  // taken
  std::int64_t skipped = 0;                 // skipped steps, whose gradients were not finite
  math::LossScale loss_scale{};             // what the loss's gradient is multiplied with
  float step_size[kStepGroups] = {}, root_scale[kStepGroups] = {};  // Adam's, of this step: by group; see math::AdamRule
  float grad_scale = 1, ema_decay = 0;                              // of this step
  std::int32_t skip = 0;                                            // this step changes nothing
  std::int32_t padding = 0;
};

/// What the schedule sets before each step, in device memory too.
struct StepSettings {
  float lr[kStepGroups] = {};           // by group
  std::int32_t born[kStepGroups] = {};  // by group: steps taken before its parameters began to train
  std::int32_t groups = 3;
  float momentum = 0;  // Adam's beta1
};

/// state.sum_of_squares += sum of values^2, in double and in a fixed order. Lower bound: reads values once.
struct SumOfSquares {
  const float* values = nullptr;
  std::int64_t count = 0;
  UpdateState* state = nullptr;
};

/// Makes the step's numbers of the gathered sum of squares: the norm, the scale of the gradients (clip, loss scale), whether
/// to skip, the counters, the average's decay, and the next loss scale where it is `dynamic`. This step's unscaling uses
/// the loss scale before the change.
struct PrepareStep {
  UpdateState* state = nullptr;
  const StepSettings* settings = nullptr;
  double clip = 10;  // of the norm; <= 0: none
  float beta2 = 0.999f;
  bool dynamic = false;

  FROST_HD void run() const {  // one thread's work, on every device
    UpdateState s = *state;
    s.norm = std::sqrt(s.sum_of_squares) / s.loss_scale.scale;
    s.sum_of_squares = 0;
    const bool finite = std::isfinite(s.norm);
    s.skip = !finite;
    if (finite) {
      s.grad_scale = math::step_gradient_scale(s.norm, clip, s.loss_scale.scale);
      ++s.steps;
      s.ema_decay = static_cast<float>(math::ema_decay(++s.ema_updates));
      for (int group = 0; group < settings->groups; ++group) {
        const std::int64_t own = s.steps - settings->born[group];
        s.step_size[group] = static_cast<float>(math::adam_step_size(settings->lr[group], settings->momentum, own));
        s.root_scale[group] = static_cast<float>(math::adam_root_scale(beta2, own));
      }
    } else {
      ++s.skipped;
    }
    if (dynamic) s.loss_scale = math::next_loss_scale(s.loss_scale, finite);
    *state = s;
  }
};

/// One SGD step with Nesterov momentum over a flat arena of parameters (docs/spec/train.md section 5):
/// g = grad_scale * grad + weight_decay * value; buf = first step ? g : momentum * buf + g; value -= lr * (g + momentum *
/// buf); value and buf are multiplied by mask where there is one; ema = ema_decay * ema + (1 - ema_decay) * value. The first
/// step is the one after which state->steps is 1; nothing happens where state->skip. Lower bound: reads value, grad, buf,
/// ema once, writes value, buf, ema once.
struct SgdStep {
  float *value = nullptr, *momentum_buffer = nullptr;
  const float* grad = nullptr;
  const float* mask = nullptr;  // 0 or 1, or null
  float* ema = nullptr;         // or null
  std::int64_t count = 0;
  const UpdateState* state = nullptr;
  const StepSettings* settings = nullptr;
  int group = 0;  // whose learning rate
  float weight_decay = 0;
  bool nesterov = true;
};

/// Adam (decay added to the gradient) or AdamW (decoupled), bias-corrected; beta1 is the settings' momentum.
struct AdamStep {
  float *value = nullptr, *exp_avg = nullptr, *exp_avg_sq = nullptr;
  const float* grad = nullptr;
  const float* mask = nullptr;
  float* ema = nullptr;
  std::int64_t count = 0;
  const UpdateState* state = nullptr;
  const StepSettings* settings = nullptr;
  int group = 0;
  float beta2 = 0.999f, eps = 1e-8f, weight_decay = 0;
  bool decoupled = false;
};

/// One tensor of a list that is averaged.
struct EmaItem {
  float* ema = nullptr;
  const float* value = nullptr;
  std::int64_t count = 0;
};
/// ema = decay * ema + (1 - decay) * value for a list of tensors, in one call: a model has some hundred running statistics.
/// The decay is the step's, state->ema_decay; nothing happens where state->skip.
struct EmaUpdate {
  const EmaItem* items = nullptr;  // in device memory
  std::int64_t item_count = 0;
  std::int64_t largest = 0;  // the longest item's count
  std::int64_t values = 0;   // of all items together
  const UpdateState* state = nullptr;
};

}  // namespace frost
