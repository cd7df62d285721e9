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
  std::int64_t count() const { return value ? value.elements() : 0; }
};

/// Moves the trainable parameters into flat groups: biases, decayed weights, norm weights (spec/train.md section 5).
/// Frozen parameters stay where they are: no gradient, no state, no average.
class ParameterArena {
 public:
  static constexpr std::size_t kBias = 0, kWeight = 1, kNorm = 2;
  ParameterArena(Device& device, Module& model, float weight_decay, bool with_ema);

  std::vector<ParameterGroup>& groups() { return groups_; }
  /// How many tensors of the whole model belong to each group, frozen ones too: what YOLOv5 prints.
  const std::vector<std::size_t>& group_sizes() const { return sizes_; }
  void zero_grad();
  void add_squares(UpdateState* state);  // of all gradients, to the state's sum
  void apply_masks();                    // masks have changed: values, momenta and averages obey them at once
  void touch();                          // values have changed: new stamps

 private:
  Device& device_;
  std::vector<ParameterGroup> groups_;
  std::vector<std::size_t> sizes_;
};

}  // namespace frost
