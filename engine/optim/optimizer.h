#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "engine/optim/arena.h"

namespace frost {

enum class OptimizerKind { sgd, adam, adamw };
OptimizerKind parse_optimizer(const std::string& name);  // "SGD", "Adam", "AdamW"; Error otherwise
const char* name_of(OptimizerKind kind);

/// Decay of the n-th average (n from 1): 0.9999 (1 - exp(-n / 2000)) (spec/train.md section 8).
double ema_decay(std::int64_t update);

/// Steps the arena's groups: clip, update, mask, average, in one pass over each group's memory.
class Optimizer {
 public:
  Optimizer(ParameterArena& arena, Device& device, OptimizerKind kind);

  /// One step with the groups' current lr. The gradients are scaled by min(1, clip / (norm + 1e-6)); clip <= 0: not at all.
  /// Returns the gradient norm before clipping. Zeroes the gradients. Where the norm is not finite nothing is changed but
  /// the gradients, and `skipped()` counts it.
  double step(float momentum, double clip = 10.0);

  std::int64_t steps() const { return steps_; }
  std::int64_t skipped() const { return skipped_; }
  std::int64_t ema_updates() const { return ema_updates_; }
  OptimizerKind kind() const { return kind_; }

  /// For resuming.
  void restore(std::int64_t steps, std::int64_t ema_updates) { steps_ = steps, ema_updates_ = ema_updates; }

 private:
  ParameterArena& arena_;
  Device& device_;
  OptimizerKind kind_;
  std::int64_t steps_ = 0, ema_updates_ = 0, skipped_ = 0;
};

/// The average of the buffers (running statistics) that training moves; those of frozen parts are shared, not averaged.
class BufferAverage {
 public:
  BufferAverage(Device& device, std::vector<Buffer*> buffers);
  void update(double decay);
  const std::vector<Buffer*>& buffers() const { return buffers_; }
  Tensor average(std::size_t i) const { return averages_[i]; }

 private:
  Device& device_;
  std::vector<Buffer*> buffers_;
  std::vector<Tensor> averages_;
};

}  // namespace frost
