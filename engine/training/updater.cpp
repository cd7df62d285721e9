#include "engine/training/updater.h"

#include <cmath>

namespace frost {

Updater::Updater(Device& device, ParameterArena& arena, ModelAverage& average, const ScheduleConfig& schedule,
                 OptimizerKind optimizer, double clip)
    : arena_(arena),
      average_(average),
      config_(schedule),
      schedule_(schedule),
      optimizer_(arena, device, optimizer),
      clip_(clip) {}

Schedule::Step Updater::begin_batch(std::int64_t epoch, std::int64_t batch) {
  batch_ = batch + config_.batches_per_epoch * epoch;
  step_ = schedule_.at(epoch, batch);
  for (std::size_t g = 0; g < step_.lr.size(); ++g) arena_.groups()[g].lr = static_cast<float>(step_.lr[g]);
  return step_;
}

std::optional<double> Updater::end_batch() {
  if (batch_ - last_step_ < step_.accumulate) return {};
  last_step_ = batch_;
  const double norm = optimizer_.step(static_cast<float>(step_.momentum), clip_);
  if (std::isfinite(norm)) average_.update(optimizer_.ema_updates());
  return norm;
}

void Updater::restore(std::int64_t epoch, std::int64_t last_step, std::int64_t steps, std::int64_t ema_updates) {
  last_step_ = last_step;
  optimizer_.restore(steps, ema_updates);
  for (std::int64_t e = 0; e < epoch; ++e)  // the schedule keeps its last accumulation: walk it to where the run stopped
    for (std::int64_t i = 0; i < config_.batches_per_epoch; ++i) schedule_.at(e, i);
}

}  // namespace frost
