#include "engine/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace frost {

Schedule::Schedule(const ScheduleConfig& config)
    : config_(config),
      warmup_(std::max<std::int64_t>(std::llrint(config.warmup_epochs * static_cast<double>(config.batches_per_epoch)),
                                     config.minimum_warmup)),
      accumulate_(std::max<std::int64_t>(
          std::llrint(static_cast<double>(config.nominal_batch) / static_cast<double>(config.batch_size)), 1)) {}

double Schedule::factor(double epoch) const {
  const double share = epoch / static_cast<double>(config_.epochs);
  if (config_.cosine) return (1 - std::cos(share * std::numbers::pi)) / 2 * (config_.lrf - 1) + 1;
  return (1 - share) * (1 - config_.lrf) + config_.lrf;
}

Schedule::Step Schedule::at(std::int64_t epoch, std::int64_t batch) {
  const std::int64_t ni = batch + config_.batches_per_epoch * epoch;
  Step step{};
  if (ni > warmup_ || warmup_ == 0) {
    // One epoch behind, since YOLOv5 steps its scheduler after the epoch; but the epoch in which the warm-up ends keeps the
    // warm-up's last value, which was that epoch's own.
    const bool own = !config_.lag || epoch == warmup_ / config_.batches_per_epoch;
    const std::int64_t counted = own ? epoch : std::max<std::int64_t>(epoch - 1, 0);
    step.lr.fill(config_.lr0 * factor(static_cast<double>(counted)));
    step.momentum = config_.momentum;
    step.accumulate = accumulate_;
    return step;
  }
  const double share = static_cast<double>(ni) / static_cast<double>(warmup_);
  const auto between = [&](double a, double b) { return a + (b - a) * share; };
  const double lr = config_.lr0 * factor(static_cast<double>(epoch));
  step.lr = {between(config_.warmup_bias_lr, lr), between(0, lr), between(0, lr)};
  step.momentum = config_.warm_momentum ? between(config_.warmup_momentum, config_.momentum) : config_.momentum;
  const double nominal = static_cast<double>(config_.nominal_batch) / static_cast<double>(config_.batch_size);
  accumulate_ = std::max<std::int64_t>(1, std::llrint(between(1, nominal)));
  step.accumulate = accumulate_;
  return step;
}

}  // namespace frost
