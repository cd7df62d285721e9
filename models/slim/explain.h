#pragma once
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/optim/optimizer.h"
#include "kernels/trace/trace.h"
#include "models/task.h"

namespace frost::slim {

/// What one part of a model costs in a training step.
struct StepCost {
  std::int64_t parameters = 0, trainable = 0;  // numbers, not bytes
  // Bytes, as the ledger accounts them: an arena aligns its members.
  std::int64_t weights = 0, buffers = 0, gradients = 0, optimizer = 0, ema = 0, saved = 0;
  std::int64_t forward_flops = 0, dgrad_flops = 0, wgrad_flops = 0;  // two for each multiply-add
  double forward_seconds = 0, backward_seconds = 0, update_seconds = 0;

  std::int64_t bytes() const { return weights + buffers + gradients + optimizer + ema + saved; }
  std::int64_t flops() const { return forward_flops + dgrad_flops + wgrad_flops; }
  double seconds() const { return forward_seconds + backward_seconds + update_seconds; }
  void add(const StepCost& other);
};

struct ModuleCost {
  std::string name, type;         // "model.2", "C3"
  StepCost cost;                  // of the module with all below it
  std::vector<ModuleCost> parts;  // the leaves below it that cost anything, by name
};

/// the accounts of one training step in its steady state (not the first one: that fills caches).
struct StepReport {
  std::vector<ModuleCost> modules;
  StepCost rest;                                       // what belongs to no module: the loss, alignment, the batch
  StepCost total;                                      // modules + rest
  std::array<std::int64_t, kRoleCount> peaks{};        // most bytes at a time, for each role
  std::array<std::int64_t, kRoleCount> resident{};     // between two steps
  std::int64_t peak = 0;                               // most bytes at a time, all roles together
  std::array<std::int64_t, kRoleCount> whole_peaks{};  // with the EMA model and its validation, where asked for
  std::int64_t whole_peak = 0;
  std::array<std::int64_t, 64> calls{};  // of each Primitive
  std::int64_t kept_each = 0;            // Task's
  double wall_seconds = 0;               // of a whole measured step; 0: a prediction

  std::int64_t peak_of(Role role) const { return peaks[static_cast<std::size_t>(role)]; }
};

struct StepOptions {
  OptimizerKind optimizer = OptimizerKind::sgd;
  FrozenBn frozen_bn = FrozenBn::running;
  bool ema = true;             // an exponential moving average is kept
  bool validation = false;     // ... and validated after the epoch, as a second model that shares what is frozen
  bool all_trainable = false;  // else as the model's parameters are
  int warm_up = 1;             // steps before the one that counts
};

/// How long a call takes; see CallTimes.
using Timer = std::function<double(const PrimitiveCall&)>;

/// What a training step of `model`, frozen and masked as it is, will cost on a device like `like`. Nothing is computed and
/// no memory is touched: the task that `make` makes for a copy of the model takes a real step on a device that only keeps
/// books, so the bytes are exact for any model, freezing and precision. Times where a `timer` is given.
StepReport predict_step(Model& model, const MakeTask& make, const StepOptions& options, const Backend& like,
                        const Timer& timer = {});

/// What such a step did cost on `backend`: the same accounts kept by a step that computes, and its time, the best of
/// `steps`.
StepReport measure_step(Model& model, const MakeTask& make, const StepOptions& options, Backend& backend, int steps);

/// Times single primitives on a device, each kind of call once: a step's time is predicted from them. Operands live only
/// while their call is timed, so a model that does not fit can be asked about as well.
class CallTimes {
 public:
  explicit CallTimes(Device& device) : device_(device) {}
  double seconds(const PrimitiveCall& call);
  std::size_t measured() const { return seconds_.size(); }

 private:
  Device& device_;
  std::map<std::vector<std::int64_t>, double> seconds_;  // by key
};

}  // namespace frost::slim
