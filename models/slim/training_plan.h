#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/training/loop.h"
#include "models/model.h"
#include "models/slim/gradual.h"

namespace frost::slim {

/// The flags that say what of a model trains, how fast, and what becomes zero meanwhile: the same for every family.
struct PlanFlags {
  std::vector<std::string> freeze{"0"};  // see freeze
  std::vector<std::string> unfreeze_at;  // see UnfreezeStage
  std::vector<std::string> lr_scale;     // see scale_learning_rates
  std::string prune_schedule;            // see PruneSchedule; empty: none
  int epochs = 0;                        // of the training
  bool dry_run = false;                  // where nothing trains that can be said, too
};

/// Those among a trainer's options.
template <class TrainConfig>
PlanFlags plan_flags(const TrainConfig& c) {
  return {c.freeze, c.unfreeze_at, c.lr_scale, c.prune_schedule, c.epochs, c.dry_run};
}

/// These flags at work in one training.
class Plan {
 public:
  /// Freezes, sets the rates, makes room for masks to come: call it before the arena is built. Throws Error for flags that
  /// do not fit the model, each other, or the epochs.
  Plan(Model& model, const PlanFlags& flags, Observer& observer);

  const std::vector<std::string>& frozen() const { return frozen_; }  // names, in model order
  const std::vector<std::string>& rates() const { return rates_; }    // a line for each --lr-scale
  /// For a dry run: freezes only what the last stage does, when the most trains. Returns that stage's terms, or --freeze's.
  std::vector<std::string> begin_last_stage();
  /// Adds the plan to a loop's options; it must outlive the loop. `unfrozen`: called where parameters have been unfrozen.
  void steer(LoopOptions& options, ParameterArena& arena, std::function<void()> unfrozen);
  /// The flags as they were given.
  const PlanFlags& flags() const { return flags_; }

 private:
  void check_groups();  // that the optimizer has room for all that there will be

  Model& model_;
  PlanFlags flags_;
  Observer& observer_;
  std::vector<UnfreezeStage> stages_;
  std::vector<std::string> frozen_, rates_;
  PruneSchedule schedule_{.epochs = 0};
  std::optional<GradualPruning> gradual_;
};

}  // namespace frost::slim
