#pragma once
#include <functional>

#include "engine/checkpoint/module_state.h"
#include "engine/nn/layers.h"
#include "engine/optim/optimizer.h"

namespace frost {

/// Does training change this buffer? True for the running statistics of every BatchNorm but the frozen ones that stay so, as
/// the model is when it is asked.
std::function<bool(const Buffer&)> moving_statistics(Module& model, FrozenBn frozen_bn);

/// The exponential moving average of a model in training: trainable parameters in the arena's groups (the optimizer's fused
/// step moves them), moving buffers here. Frozen values have no average: the model's own are used.
class ModelEma {
 public:
  /// `moves`: does training change this buffer? Asked again by grow().
  ModelEma(Device& device, Module& model, ParameterArena& arena, std::function<bool(const Buffer&)> moves);

  /// Also averages what has become trainable since (ParameterArena::adopt).
  void grow();

  /// After each optimizer step: averages the buffers with the step's decay.
  void update(const UpdateState* state) { buffers_.update(state); }
  /// Makes `ema_model`, a module of the same architecture, the EMA model, as it is now. It owns no value afterwards: its
  /// tensors are the averages themselves and, where nothing is averaged, the model's. So it must not be written to.
  void alias(Module& ema_model) const;
  /// The EMA state dict.
  StateDict state() const;
  /// Takes the averages from a file (resume).
  void restore(const StateDict& state);

 private:
  Tensor ema_of(const std::string& name) const;

  Module& model_;
  ParameterArena& arena_;
  std::function<bool(const Buffer&)> moves_;
  std::unordered_map<std::string, Tensor> emas_;  // by name: slices of the arena's groups
  BufferEma buffers_;
};

}  // namespace frost
