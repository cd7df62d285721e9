#pragma once
#include <vector>

#include "engine/nn/module.h"

namespace frost {

/// A run of parameters that share one update rule, in flat memory: value, gradient, optimizer state, average. One fused
/// kernel steps the whole group. Members start at multiples of 16 floats; the gaps hold zeros and stay zeros.
struct ParameterGroup {
  std::vector<Parameter*> members;  // trainable ones only
  std::vector<std::int64_t> offsets;
  Tensor value, grad, momentum, second_moment, ema,
      mask;  // (1, 1, 1, count) each; momentum, second_moment and mask when needed
  float weight_decay = 0;
  float lr = 0;
  std::size_t kind = 0;   // ParameterArena's kBias, kWeight or kNorm
  float lr_scale = 1;     // its members': lr is the kind's learning rate times this
  std::int64_t born = 0;  // optimizer steps taken before its members began to train
  std::int64_t count() const { return value ? value.elements() : 0; }
};

/// Moves the trainable parameters into flat groups: biases, decayed weights, norm weights (docs/spec/train.md section 5),
/// each split by learning-rate scale. Frozen parameters stay where they are: no gradient, no state, no average.
class ParameterArena {
 public:
  static constexpr std::size_t kBias = 0, kWeight = 1, kNorm = 2;
  /// Which of them a module's own parameter belongs to.
  static std::size_t kind_of(const Module& module, const Parameter& parameter);
  ParameterArena(Device& device, Module& model, float weight_decay, bool with_ema);

  /// Adds the parameters that have become trainable since, in groups of their own. The memory of earlier parameters does
  /// not move. `born`: the optimizer's steps so far. The average of a new member begins at its value. Throws Error where a
  /// member has become frozen. Returns how many were taken in.
  std::size_t adopt(std::int64_t born);

  std::vector<ParameterGroup>& groups() { return groups_; }
  /// The number of tensors of the whole model in each kind of group, also frozen ones. YOLOv5 prints these.
  const std::vector<std::size_t>& group_sizes() const { return sizes_; }
  void zero_grad();
  void add_squares(UpdateState* state);  // of all gradients, to the state's sum
  void apply_masks();                    // after masks changed: applies them to values, momenta and averages
  void touch();                          // values have changed: new versions

 private:
  void move_in(ParameterGroup& group);

  Device& device_;
  Module& model_;
  float weight_decay_;
  bool with_ema_;
  std::vector<ParameterGroup> groups_;
  std::vector<std::size_t> sizes_;
};

}  // namespace frost
