#pragma once
#include <cstdint>

#include "engine/optim/schedule.h"
#include "engine/training/captured_step.h"
#include "engine/training/ema.h"

namespace frost {

/// Turns accumulated gradients into steps: each batch's learning rates and momentum, accumulation up to the nominal batch,
/// clipping, the step, the average (docs/spec/train.md sections 6 and 7).
class Updater {
 public:
  Updater(Device& device, ParameterArena& arena, ModelEma& ema, const ScheduleConfig& schedule, OptimizerKind optimizer,
          double clip, bool loss_scaling = false, bool capture = false);

  /// Drops what was gathered since the last step, as YOLOv5 does at an epoch's start.
  void begin_epoch() { arena_.zero_grad(); }
  /// The learning rate that the schedule gives to an epoch, without warm-up.
  double lr_of(std::int64_t epoch) const { return config_.lr0 * schedule_.factor(static_cast<double>(epoch)); }
  /// Sets the groups' learning rates for this batch.
  Schedule::Step begin_batch(std::int64_t epoch, std::int64_t batch);
  /// After the batch's backward pass: queues the step if one is due, and says whether it was. Where the gradients are not
  /// finite the step changes nothing: see UpdateState.
  bool end_batch();

  /// Adds what has become trainable: gradients, optimizer state and average from now on. `steps`: the optimizer steps that
  /// were taken before it was unfrozen. Returns how many parameters were unfrozen.
  std::size_t unfreeze(std::int64_t steps);

  const Optimizer& optimizer() const { return optimizer_; }
  std::int64_t last_step() const { return last_step_; }
  /// Goes to the start of `epoch` in a run whose last step was at batch `last_step`, counted over all epochs.
  void restore(std::int64_t epoch, std::int64_t last_step, const UpdateState& state);

 private:
  ParameterArena& arena_;
  ModelEma& ema_;
  ScheduleConfig config_;
  Schedule schedule_;
  Optimizer optimizer_;
  CapturedStep work_;
  double clip_;
  Schedule::Step step_{};
  std::int64_t batch_ = 0;  // counted over all epochs
  std::int64_t last_step_ = -1;
};

}  // namespace frost
