#include "engine/training/updater.h"

namespace frost {

Updater::Updater(Device& device, ParameterArena& arena, ModelAverage& average, const ScheduleConfig& schedule,
                 OptimizerKind optimizer, double clip, bool loss_scaling)
    : arena_(arena),
      average_(average),
      config_(schedule),
      schedule_(schedule),
      optimizer_(arena, device, optimizer, loss_scaling),
      clip_(clip) {}

Schedule::Step Updater::begin_batch(std::int64_t epoch, std::int64_t batch) {
  batch_ = batch + config_.batches_per_epoch * epoch;
  step_ = schedule_.at(epoch, batch);
  for (ParameterGroup& group : arena_.groups()) group.lr = static_cast<float>(step_.lr[group.kind] * group.lr_scale);
  return step_;
}

bool Updater::end_batch() {
  if (batch_ - last_step_ < step_.accumulate) return false;
  last_step_ = batch_;
  optimizer_.step(static_cast<float>(step_.momentum), clip_);
  average_.update(optimizer_.device_state());
  return true;
}

std::size_t Updater::wake(std::int64_t steps) {
  const std::size_t woken = arena_.adopt(steps);
  optimizer_.grow();
  average_.grow();
  return woken;
}

void Updater::restore(std::int64_t epoch, std::int64_t last_step, const UpdateState& state) {
  last_step_ = last_step;
  optimizer_.restore(state);
  for (std::int64_t e = 0; e < epoch; ++e)  // the schedule keeps its last accumulation: walk it to where the run stopped
    for (std::int64_t i = 0; i < config_.batches_per_epoch; ++i) schedule_.at(e, i);
}

}  // namespace frost
