#pragma once
#include <cstdint>
#include <string>

#include "engine/optim/arena.h"

namespace frost::slim {

/// Gradual magnitude pruning while training (Zhu and Gupta 2017, "To prune, or not to prune"): sparsity rises from `from` to
/// `to` over `epochs`, fast at first, then ever slower: s(x) = to + (from - to) (1 - x)^3, x from 0 to 1.
struct PruneSchedule {
  double from = 0, to = 0;
  std::int64_t epochs = 1;
  double at(double x) const;
};
/// "0.0:0.6:10". Throws Error for anything else.
PruneSchedule parse_prune_schedule(const std::string& text);

/// The schedule at work on every trainable convolution: some ten times an epoch each one's smallest weights are masked, as
/// prune_l1 does. What it does depends on the weights and the batch's number alone: a resumed run needs nothing but its
/// masks.
class GradualPruning {
 public:
  static constexpr std::int64_t kUpdatesPerEpoch = 10;
  /// Gives the convolutions masks, so that the arena keeps room for them: call it before the arena is built.
  GradualPruning(Module& model, PruneSchedule schedule);
  /// To be called before batch `batch` of an epoch of `batches`; true where the masks were made again.
  bool before_batch(ParameterArena& arena, std::int64_t epoch, std::int64_t batch, std::int64_t batches);
  /// To be called when parameters have become trainable at the start of `epoch`, before the arena adopts them: they get
  /// masks too and are pruned from then on as the others are; after the schedule, at once to its end.
  void unfreeze(std::int64_t epoch) { take_in(epoch < schedule_.epochs ? 0 : schedule_.to); }

 private:
  void take_in(double amount);  // prunes what trains and is in no arena yet

  Module& model_;
  PruneSchedule schedule_;
};

}  // namespace frost::slim
