#include "engine/optim/optimizer.h"

#include <algorithm>
#include <iterator>

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

namespace {
/// Device memory that holds `count` values of the host. Some hundred bytes, so they do not count as optimizer state: that is
/// what grows with the parameters.
template <class T>
Tensor device_memory(Device& device, const T* values, std::int64_t count) {
  static_assert(sizeof(T) % sizeof(float) == 0);
  const std::int64_t words = count * static_cast<std::int64_t>(sizeof(T) / sizeof(float));
  Tensor memory(device, {1, 1, 1, words}, DType::f32, Role::workspace);
  device.backend().upload(memory.data(), values, static_cast<std::size_t>(count) * sizeof(T));
  return memory;
}
}  // namespace

Optimizer::Optimizer(ParameterArena& arena, Device& device, OptimizerKind kind, bool loss_scaling)
    : arena_(arena), device_(device), kind_(kind), loss_scaling_(loss_scaling) {
  UpdateState state;
  if (loss_scaling) state.loss_scale.scale = math::kFirstLossScale;
  const StepSettings settings;
  state_ = device_memory(device, &state, 1);
  settings_ = device_memory(device, &settings, 1);
  grow();
}

void Optimizer::grow() {
  FROST_CHECK(arena_.groups().size() <= kStepGroups, "optimizer: ", arena_.groups().size(),
              " groups of parameters, there is room for ", kStepGroups,
              ": fewer learning-rate scales, or stages of unfreezing");
  for (ParameterGroup& group : arena_.groups()) {
    if (!group.value || group.momentum) continue;
    group.momentum = Tensor::zeros(device_, group.value.shape(), DType::f32, Role::optimizer_state);
    if (kind_ != OptimizerKind::sgd)
      group.second_moment = Tensor::zeros(device_, group.value.shape(), DType::f32, Role::optimizer_state);
  }
}

void Optimizer::set(float momentum) {
  StepSettings settings{.groups = static_cast<std::int32_t>(arena_.groups().size()), .momentum = momentum};
  for (std::size_t g = 0; g < arena_.groups().size(); ++g) {
    settings.lr[g] = arena_.groups()[g].lr;
    settings.born[g] = static_cast<std::int32_t>(arena_.groups()[g].born);
  }
  device_.backend().upload(settings_.data(), &settings, sizeof settings);
}

void Optimizer::queue(double clip) {
  Backend& backend = device_.backend();
  auto* state = static_cast<UpdateState*>(state_.data());
  const auto* settings = static_cast<const StepSettings*>(settings_.data());
  arena_.add_squares(state);
  backend.prepare_step({.state = state, .settings = settings, .clip = clip, .dynamic = loss_scaling_});
  for (std::size_t g = 0; g < arena_.groups().size(); ++g) {
    ParameterGroup& group = arena_.groups()[g];
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
                        .state = state,
                        .settings = settings,
                        .group = static_cast<int>(g),
                        .weight_decay = group.weight_decay});
    } else {
      backend.adam_step({.value = group.value.f32(),
                         .exp_avg = group.momentum.f32(),
                         .exp_avg_sq = group.second_moment.f32(),
                         .grad = group.grad.f32(),
                         .mask = mask,
                         .ema = ema,
                         .count = group.count(),
                         .state = state,
                         .settings = settings,
                         .group = static_cast<int>(g),
                         .weight_decay = group.weight_decay,
                         .decoupled = kind_ == OptimizerKind::adamw});
    }
  }
  arena_.zero_grad();
}

UpdateState Optimizer::state() const {
  UpdateState state;
  device_.backend().synchronize();
  device_.backend().download(&state, state_.data(), sizeof state);
  return state;
}

void Optimizer::restore(const UpdateState& given) {
  UpdateState state = given;
  if (!loss_scaling_) state.loss_scale = {};
  if (loss_scaling_ && state.loss_scale.scale == 1) state.loss_scale.scale = math::kFirstLossScale;
  device_.backend().upload(state_.data(), &state, sizeof state);
}

void BufferEma::adopt(const std::vector<Buffer*>& buffers) {
  for (Buffer* buffer : buffers) {
    if (std::find(buffers_.begin(), buffers_.end(), buffer) != buffers_.end()) continue;
    buffers_.push_back(buffer);
    emas_.emplace_back(device_, buffer->value.shape(), DType::f32, Role::optimizer_state);
    device_.backend().copy({.x = buffer->value, .y = emas_.back()});
  }
  std::vector<EmaItem> items;
  values_ = largest_ = 0;
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    items.push_back({emas_[i].f32(), buffers_[i]->value.f32(), emas_[i].elements()});
    values_ += items.back().count;
    largest_ = std::max(largest_, items.back().count);
  }
  if (!items.empty()) items_ = device_memory(device_, items.data(), std::ssize(items));
}

void BufferEma::update(const UpdateState* state) {
  if (buffers_.empty()) return;
  device_.backend().ema_update({.items = static_cast<const EmaItem*>(items_.data()),
                                .item_count = std::ssize(buffers_),
                                .largest = largest_,
                                .values = values_,
                                .state = state});
}

}  // namespace frost
