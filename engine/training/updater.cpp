#include "engine/training/updater.h"

namespace frost {

Updater::Updater(Device& device, ParameterArena& arena, ModelEma& ema, const ScheduleConfig& schedule,
                 OptimizerKind optimizer, double clip, bool loss_scaling, bool capture)
    : arena_(arena),
      ema_(ema),
      config_(schedule),
      schedule_(schedule),
      optimizer_(arena, device, optimizer, loss_scaling),
      work_(device, nullptr, capture),
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
  optimizer_.set(static_cast<float>(step_.momentum));
  CapturedStep::Key masked;  // masks may be added during training
  for (const ParameterGroup& group : arena_.groups()) masked.push_back(group.mask ? 1 : 0);
  work_.run(masked, [&] {
    optimizer_.queue(clip_);
    ema_.update(optimizer_.device_state());
  });
  optimizer_.touch();
  return true;
}

std::size_t Updater::unfreeze(std::int64_t steps) {
  const std::size_t unfrozen = arena_.adopt(steps);
  optimizer_.grow();
  ema_.grow();
  work_.forget();
  return unfrozen;
}

void Updater::restore(std::int64_t epoch, std::int64_t last_step, const UpdateState& state) {
  last_step_ = last_step;
  optimizer_.restore(state);
  for (std::int64_t e = 0; e < epoch; ++e)  // the schedule keeps its last accumulation: repeat it up to this epoch
    for (std::int64_t i = 0; i < config_.batches_per_epoch; ++i) schedule_.at(e, i);
}

}  // namespace frost
