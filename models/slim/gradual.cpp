#include "models/slim/gradual.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "models/slim/prune.h"

namespace frost::slim {

double PruneSchedule::at(double x) const { return to + (from - to) * std::pow(1 - x, 3); }

PruneSchedule parse_prune_schedule(const std::string& text) {
  PruneSchedule s;
  const char *at = text.data(), *end = at + text.size();
  const auto number = [&](auto& value, bool last) {
    const auto [next, trouble] = std::from_chars(at, end, value);
    if (trouble != std::errc() || (last ? next != end : next == end || *next != ':')) return false;
    at = next + 1;
    return true;
  };
  FROST_CHECK(number(s.from, false) && number(s.to, false) && number(s.epochs, true), "--prune-schedule '", text,
              "': expected FROM:TO:EPOCHS, such as 0.0:0.6:10");
  FROST_CHECK(s.from >= 0 && s.from <= s.to && s.to < 1 && s.epochs > 0, "--prune-schedule '", text,
              "': expected 0 <= FROM <= TO < 1 and at least one epoch");
  return s;
}

GradualPruning::GradualPruning(Module& model, PruneSchedule schedule) : model_(model), schedule_(schedule) { take_in(0); }

void GradualPruning::take_in(double amount) {
  for (Conv2d* conv : prunable(model_)) {
    Parameter& weight = conv->weight;
    if (!weight.trainable || weight.grad) continue;
    if (!weight.mask) set_mask(weight, std::vector<bool>(static_cast<std::size_t>(weight.value.elements()), true));
    mask_smallest(weight, amount);
  }
}

bool GradualPruning::before_batch(ParameterArena& arena, std::int64_t epoch, std::int64_t batch, std::int64_t batches) {
  const std::int64_t each = std::min(kUpdatesPerEpoch, batches);
  const auto updates_before = [&](std::int64_t b) { return (b * each + batches - 1) / batches; };
  if (epoch >= schedule_.epochs || updates_before(batch) == updates_before(batch + 1)) return false;
  const std::int64_t update = epoch * each + updates_before(batch), last = schedule_.epochs * each - 1;
  const double amount = schedule_.at(last > 0 ? static_cast<double>(update) / static_cast<double>(last) : 1.0);
  for (Conv2d* conv : prunable(model_))
    if (conv->weight.trainable) mask_smallest(conv->weight, amount);
  arena.apply_masks();
  return true;
}

}  // namespace frost::slim
