#include "engine/optim/optimizer.h"

#include <algorithm>
#include <cctype>
#include <cmath>

namespace frost {

OptimizerKind parse_optimizer(const std::string& name) {
  if (name == "SGD") return OptimizerKind::sgd;
  if (name == "Adam") return OptimizerKind::adam;
  if (name == "AdamW") return OptimizerKind::adamw;
  fail("optimizer '", name, "' is not one of SGD, Adam, AdamW");
}

const char* name_of(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::sgd:
      return "SGD";
    case OptimizerKind::adam:
      return "Adam";
    case OptimizerKind::adamw:
      return "AdamW";
  }
  return "?";
}

double ema_decay(std::int64_t update) { return 0.9999 * (1.0 - std::exp(-static_cast<double>(update) / 2000.0)); }

Optimizer::Optimizer(ParameterArena& arena, Device& device, OptimizerKind kind)
    : arena_(arena), device_(device), kind_(kind) {
  for (ParameterGroup& group : arena_.groups()) {
    if (!group.value) continue;
    group.momentum = Tensor::zeros(device, group.value.shape(), DType::f32, Role::optimizer_state);
    if (kind_ != OptimizerKind::sgd)
      group.second_moment = Tensor::zeros(device, group.value.shape(), DType::f32, Role::optimizer_state);
  }
}

double Optimizer::step(float momentum, double clip) {
  const double norm = arena_.gradient_norm();
  if (!std::isfinite(norm)) {
    ++skipped_;
    arena_.zero_grad();
    return norm;
  }
  const auto scale = static_cast<float>(clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0);
  ++steps_;
  const auto decay = static_cast<float>(ema_decay(++ema_updates_));
  Backend& backend = device_.backend();
  for (ParameterGroup& group : arena_.groups()) {
    if (!group.value) continue;
    const float* mask = group.mask ? group.mask.f32() : nullptr;
    float* ema = group.ema ? group.ema.f32() : nullptr;
    if (kind_ == OptimizerKind::sgd) {
      backend.sgd_step({.value = group.value.f32(),
                        .momentum_buffer = group.momentum.f32(),
                        .grad = group.grad.f32(),
                        .mask = mask,
                        .ema = ema,
                        .count = group.count(),
                        .lr = group.lr,
                        .momentum = momentum,
                        .weight_decay = group.weight_decay,
                        .grad_scale = scale,
                        .ema_decay = decay,
                        .nesterov = true,
                        .first_step = steps_ == 1});
    } else {
      backend.adam_step({.value = group.value.f32(),
                         .exp_avg = group.momentum.f32(),
                         .exp_avg_sq = group.second_moment.f32(),
                         .grad = group.grad.f32(),
                         .mask = mask,
                         .ema = ema,
                         .count = group.count(),
                         .step = steps_,
                         .lr = group.lr,
                         .beta1 = momentum,
                         .weight_decay = group.weight_decay,
                         .grad_scale = scale,
                         .ema_decay = decay,
                         .decoupled = kind_ == OptimizerKind::adamw});
    }
  }
  arena_.touch();
  arena_.zero_grad();
  return norm;
}

BufferAverage::BufferAverage(Device& device, std::vector<Buffer*> buffers) : device_(device), buffers_(std::move(buffers)) {
  for (const Buffer* buffer : buffers_) {
    averages_.emplace_back(device, buffer->value.shape(), DType::f32, Role::optimizer_state);
    device.backend().copy({.x = buffer->value, .y = averages_.back()});
  }
}

void BufferAverage::update(double decay) {
  for (std::size_t i = 0; i < buffers_.size(); ++i)
    device_.backend().ema_update({.ema = averages_[i].f32(),
                                  .value = buffers_[i]->value.f32(),
                                  .count = averages_[i].elements(),
                                  .decay = static_cast<float>(decay)});
}

}  // namespace frost
