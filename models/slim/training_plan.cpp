#include "models/slim/training_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <tuple>

namespace frost::slim {

Plan::Plan(Model& model, const PlanFlags& flags, Observer& observer)
    : model_(model),
      flags_(flags),
      observer_(observer),
      stages_(unfreeze_stages(model, model.layers(), flags.unfreeze_at, flags.freeze)),
      frozen_(model.freeze(flags.freeze)),
      rates_(scale_learning_rates(model, model.layers(), flags.lr_scale)) {
  FROST_CHECK(stages_.empty() || stages_.back().epoch < flags.epochs, "--unfreeze-at ",
              stages_.empty() ? "" : stages_.back().text, ": training ends after ", flags.epochs, " epochs");
  FROST_CHECK(flags.dry_run || !stages_.empty() || frozen_.size() < model.parameters().size(), "--freeze ",
              fmt::format("{}", fmt::join(flags.freeze, " ")), " leaves nothing to train");
  check_groups();
  if (flags.prune_schedule.empty()) return;
  schedule_ = parse_prune_schedule(flags.prune_schedule);
  FROST_CHECK(schedule_.epochs <= flags.epochs, "--prune-schedule ", flags.prune_schedule, ": longer than the ",
              flags.epochs, " epochs of --epochs");
  gradual_.emplace(model, schedule_);
}

void Plan::check_groups() {
  std::set<const Parameter*> trained;
  std::set<std::tuple<std::int64_t, float, std::size_t>> groups;  // epoch of unfreezing, scale, kind: as the arena's
  const auto unfreeze = [&](std::int64_t epoch) {
    model_.walk([&](const std::string&, Module& module) {
      for (const Parameter* p : module.own_parameters())
        if (p->trainable && trained.insert(p).second)
          groups.emplace(epoch, p->lr_scale, ParameterArena::kind_of(module, *p));
    });
  };
  unfreeze(0);
  for (const UnfreezeStage& stage : stages_) {
    model_.freeze(stage.freeze);
    unfreeze(stage.epoch);
  }
  model_.freeze(flags_.freeze);
  FROST_CHECK(groups.size() <= kStepGroups, "--unfreeze-at, --lr-scale: ", groups.size(),
              " groups of parameters (by stage, scale, and weights, biases or norms), there is room for ", kStepGroups,
              ": fewer stages, or fewer different scales");
}

std::vector<std::string> Plan::begin_last_stage() {
  if (stages_.empty()) return flags_.freeze;
  model_.freeze(stages_.back().freeze);
  if (gradual_) gradual_->unfreeze(stages_.back().epoch);
  observer_.notice(fmt::format("--unfreeze-at {}: the last stage counts, the most trains then\n", stages_.back().text));
  return stages_.back().freeze;
}

void Plan::steer(LoopOptions& options, ParameterArena& arena, std::function<void()> unfrozen) {
  options.unfreeze = [this, unfrozen = std::move(unfrozen)](std::int64_t epoch) {
    const auto stage = std::ranges::find(stages_, epoch, &UnfreezeStage::epoch);
    if (stage == stages_.end()) return false;
    model_.freeze(stage->freeze);
    if (gradual_) gradual_->unfreeze(epoch);
    observer_.notice(fmt::format("\nepoch {}: --unfreeze-at {}: {}\n", epoch, stage->text, freeze_summary(model_)));
    unfrozen();
    return true;
  };
  if (!gradual_) return;
  options.best_from = std::max(schedule_.epochs - 1, stages_.empty() ? 0 : stages_.back().epoch);
  options.before_batch = [this, &arena, batches = options.schedule.batches_per_epoch](std::int64_t epoch,
                                                                                      std::int64_t batch) {
    gradual_->before_batch(arena, epoch, batch, batches);
  };
}

}  // namespace frost::slim
