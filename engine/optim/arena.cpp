#include "engine/optim/arena.h"

#include <algorithm>
#include <map>
#include <set>

#include "engine/nn/layers.h"

namespace frost {
namespace {
std::int64_t aligned(std::int64_t count) { return (count + 15) / 16 * 16; }

/// One flat mask where any member has one; dense members and the gaps get ones.
void gather_masks(ParameterGroup& group) {
  if (std::none_of(group.members.begin(), group.members.end(), [](const Parameter* p) { return bool(p->mask); })) return;
  group.mask = Tensor(group.value.device(), group.value.shape(), DType::f32, Role::parameter);
  group.mask.assign(std::vector<float>(static_cast<std::size_t>(group.count()), 1.0f));
  for (std::size_t i = 0; i < group.members.size(); ++i) {
    Parameter& p = *group.members[i];
    if (!p.mask) continue;
    const Tensor part = group.mask.part(group.offsets[i], p.value.shape());
    part.backend().copy({.x = p.mask, .y = part});
    p.mask = part;
  }
}
}  // namespace

ParameterArena::ParameterArena(Device& device, Module& model, float weight_decay, bool with_ema)
    : device_(device), model_(model), weight_decay_(weight_decay), with_ema_(with_ema), sizes_(3) {
  adopt(0);
}

std::size_t ParameterArena::kind_of(const Module& module, const Parameter& parameter) {
  if (parameter.name.ends_with("bias")) return kBias;
  return dynamic_cast<const BatchNorm2d*>(&module) ? kNorm : kWeight;
}

std::size_t ParameterArena::adopt(std::int64_t born) {
  std::set<const Parameter*> known;
  for (const ParameterGroup& group : groups_)
    for (const Parameter* p : group.members) {
      FROST_CHECK(p->trainable, "parameter ", p->name,
                  " trained and is frozen now: a part can be unfrozen, not frozen again");
      known.insert(p);
    }
  sizes_.assign(3, 0);
  using Key = std::pair<float, std::size_t>;  // scale, kind
  std::map<Key, std::vector<Parameter*>> fresh;
  std::size_t count = 0;
  model_.walk([&](const std::string&, Module& module) {
    for (Parameter* p : module.own_parameters()) {
      const std::size_t kind = kind_of(module, *p);
      ++sizes_[kind];
      if (!p->trainable || known.contains(p)) continue;
      fresh[{p->lr_scale, kind}].push_back(p);
      ++count;
    }
  });
  for (auto& [key, members] : fresh) {
    const auto [scale, kind] = key;
    groups_.push_back({.members = std::move(members),
                       .offsets = {},
                       .value = {},
                       .grad = {},
                       .momentum = {},
                       .second_moment = {},
                       .ema = {},
                       .mask = {},
                       .weight_decay = kind == kWeight ? weight_decay_ : 0.0f,
                       .lr = 0,
                       .kind = kind,
                       .lr_scale = scale,
                       .born = born});
    move_in(groups_.back());
  }
  return count;
}

void ParameterArena::move_in(ParameterGroup& group) {
  std::int64_t count = 0;
  for (const Parameter* p : group.members) {
    group.offsets.push_back(count);
    count += aligned(p->value.elements());
  }
  const Shape flat{1, 1, 1, count};
  group.value = Tensor::zeros(device_, flat, DType::f32, Role::parameter);
  group.grad = Tensor::zeros(device_, flat, DType::f32, Role::gradient);
  if (with_ema_) group.ema = Tensor::zeros(device_, flat, DType::f32, Role::optimizer_state);
  for (std::size_t i = 0; i < group.members.size(); ++i) {
    Parameter& p = *group.members[i];
    const Tensor value = group.value.part(group.offsets[i], p.value.shape());
    device_.backend().copy({.x = p.value, .y = value});
    p.value = value;
    p.grad = group.grad.part(group.offsets[i], p.value.shape());
    p.touch();
    if (with_ema_) device_.backend().copy({.x = value, .y = group.ema.part(group.offsets[i], p.value.shape())});
  }
  gather_masks(group);
}

void ParameterArena::zero_grad() {
  for (ParameterGroup& group : groups_)
    if (group.grad) group.grad.fill_zero();
}

void ParameterArena::add_squares(UpdateState* state) {
  for (const ParameterGroup& group : groups_)
    if (group.grad) device_.backend().sum_of_squares({.values = group.grad.f32(), .count = group.count(), .state = state});
}

void ParameterArena::apply_masks() {
  for (ParameterGroup& group : groups_) {
    if (!group.mask) continue;
    const std::vector<float> mask = group.mask.to_vector();
    for (Tensor* tensor : {&group.value, &group.momentum, &group.second_moment, &group.ema}) {
      if (!*tensor) continue;
      std::vector<float> values = tensor->to_vector();
      for (std::size_t i = 0; i < values.size(); ++i)
        if (mask[i] == 0.0f) values[i] = 0.0f;
      tensor->assign(values);
    }
  }
  touch();
}

void ParameterArena::touch() {
  for (ParameterGroup& group : groups_)
    for (Parameter* p : group.members) p->touch();
}

}  // namespace frost
