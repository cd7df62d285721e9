#include "engine/training/updater.h"

namespace frost {

Updater::Updater(Device& device, ParameterArena& arena, ModelAverage& average, const ScheduleConfig& schedule,
                 OptimizerKind optimizer, double clip, bool loss_scaling, bool capture)
    : arena_(arena),
      average_(average),
      config_(schedule),
      schedule_(schedule),
      optimizer_(arena, device, optimizer, loss_scaling),
      work_(device, nullptr, capture),
      clip_(clip) {}

Schedule::Step Updater::begin_batch(std::int64_t epoch, std::int64_t batch) {
  batch_ = batch + config_.batches_per_epoch * epoch;
  step_ = schedule_.at(epoch, batch);
  for (std::size_t g = 0; g < step_.lr.size(); ++g) arena_.groups()[g].lr = static_cast<float>(step_.lr[g]);
  return step_;
}

bool Updater::end_batch() {
  if (batch_ - last_step_ < step_.accumulate) return false;
  last_step_ = batch_;
  optimizer_.set(static_cast<float>(step_.momentum));
  work_.run({}, [&] {
    optimizer_.queue(clip_);
    average_.update(optimizer_.device_state());
  });
  optimizer_.touch();
  return true;
}

void Updater::restore(std::int64_t epoch, std::int64_t last_step, const UpdateState& state) {
  last_step_ = last_step;
  optimizer_.restore(state);
  for (std::int64_t e = 0; e < epoch; ++e)  // the schedule keeps its last accumulation: walk it to where the run stopped
    for (std::int64_t i = 0; i < config_.batches_per_epoch; ++i) schedule_.at(e, i);
}

}  // namespace frost
