#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/optim/arena.h"

namespace frost {

enum class OptimizerKind { sgd, adam, adamw };
OptimizerKind parse_optimizer(const std::string& name);  // "SGD", "Adam", "AdamW"; Error otherwise
const char* name_of(OptimizerKind kind);

/// Steps the arena's groups: clip, update, mask, average, in one pass over each group's memory. The host never waits for
/// the device: the norm, the decision to skip a step and the counters are in device memory (UpdateState).
class Optimizer {
 public:
  /// `loss_scaling`: gradients arrive multiplied by a loss scale that follows PyTorch's GradScaler, for f16 training.
  Optimizer(ParameterArena& arena, Device& device, OptimizerKind kind, bool loss_scaling = false);

  /// Makes the state of groups that have none yet: of parameters that are unfrozen during training.
  void grow();

  /// One step with the groups' current lr. The gradients are scaled by min(1, clip / (norm + 1e-6)); clip <= 0: not at all.
  /// Zeroes the gradients. Where the norm is not finite nothing is changed but the gradients and the state.
  void step(float momentum, double clip = 10.0) {
    set(momentum);
    queue(clip);
    touch();
  }
  /// A step's parts: the host's settings, the work (may be captured and replayed), and marking values as changed.
  void set(float momentum);
  void queue(double clip);
  void touch() { arena_.touch(); }

  /// The state as it is after everything that was queued: waits for the device.
  UpdateState state() const;
  /// For resuming. The loss scale depends on the compute type: a resumed run without scaling drops it. One that scales only
  /// now starts with the initial scale.
  void restore(const UpdateState& state);
  const UpdateState* device_state() const { return static_cast<const UpdateState*>(state_.data()); }
  /// The scale that the loss's gradient is multiplied with: one f32 of the state, in device memory.
  Tensor loss_scale() const { return state_.part(offsetof(UpdateState, loss_scale) / sizeof(float), {1, 1, 1, 1}); }
  bool loss_scaling() const { return loss_scaling_; }
  OptimizerKind kind() const { return kind_; }

 private:
  ParameterArena& arena_;
  Device& device_;
  OptimizerKind kind_;
  bool loss_scaling_;
  Tensor state_, settings_;  // an UpdateState and a StepSettings, in device memory
};

/// The average of the buffers (running statistics) that training moves; those of frozen parts are shared, not averaged.
class BufferEma {
 public:
  explicit BufferEma(Device& device) : device_(device) {}
  /// Averages these too, starting from their current values; those already in the list do not change. From now on the
  /// buffers' memory must not move.
  void adopt(const std::vector<Buffer*>& buffers);
  void update(const UpdateState* state);  // with the decay of the state's step
  const std::vector<Buffer*>& buffers() const { return buffers_; }
  Tensor ema(std::size_t i) const { return emas_[i]; }

 private:
  Device& device_;
  std::vector<Buffer*> buffers_;
  std::vector<Tensor> emas_;
  Tensor items_;  // EmaItem for each, in device memory
  std::int64_t largest_ = 0, values_ = 0;
};

}  // namespace frost
