#include "engine/training/ema.h"

#include <map>

#include "engine/checkpoint/sparse_checkpoint.h"

namespace frost {

std::function<bool(const Buffer&)> moving_statistics(Module& model, FrozenBn frozen_bn) {
  std::map<const Buffer*, const BatchNorm2d*> norms;  // found once: what is frozen may change, the norms do not
  model.walk([&](const std::string&, Module& module) {
    if (const auto* bn = dynamic_cast<BatchNorm2d*>(&module)) norms[&bn->running_mean] = norms[&bn->running_var] = bn;
  });
  return [norms = std::move(norms), frozen_bn](const Buffer& buffer) {
    const auto norm = norms.find(&buffer);
    return norm != norms.end() && (!norm->second->frozen() || frozen_bn == FrozenBn::batch);
  };
}

ModelEma::ModelEma(Device& device, Module& model, ParameterArena& arena, std::function<bool(const Buffer&)> moves)
    : model_(model), arena_(arena), moves_(std::move(moves)), buffers_(device) {
  grow();
}

void ModelEma::grow() {
  std::vector<Buffer*> moving;
  for (Buffer* buffer : model_.buffers())
    if (moves_(*buffer)) moving.push_back(buffer);
  buffers_.adopt(moving);
  for (ParameterGroup& group : arena_.groups())
    for (std::size_t i = 0; i < group.members.size(); ++i)
      emas_[group.members[i]->name] = group.ema.part(group.offsets[i], group.members[i]->value.shape());
  for (std::size_t i = 0; i < buffers_.buffers().size(); ++i) emas_[buffers_.buffers()[i]->name] = buffers_.ema(i);
}

Tensor ModelEma::ema_of(const std::string& name) const {
  const auto it = emas_.find(name);
  return it == emas_.end() ? Tensor() : it->second;
}

void ModelEma::alias(Module& ema_model) const {
  std::unordered_map<std::string, Tensor> sources;
  std::unordered_map<std::string, std::int64_t> counters;
  model_.visit({.parameter = [&](Parameter& p) { sources[p.name] = p.value; },
                .buffer = [&](Buffer& b) { sources[b.name] = b.value; },
                .counter = [&](Counter& c) { counters[c.name] = c.value; }});
  const auto lend = [&](const std::string& name, Tensor& target) {  // returns: may its value have changed?
    const Tensor ema = ema_of(name), source = ema ? ema : sources.at(name);
    const bool other = target.data() != source.data();
    target = source;
    return ema || other;
  };
  ema_model.visit({.parameter =
                       [&](Parameter& p) {
                         if (lend(p.name, p.value)) p.touch();
                       },
                   .buffer =
                       [&](Buffer& b) {
                         if (lend(b.name, b.value)) b.touch();
                       },
                   .counter = [&](Counter& c) { c.value = counters.at(c.name); }});
}

StateDict ModelEma::state() const {
  StateDict state;
  const auto value = [&](const std::string& name, const Tensor& otherwise) {
    const Tensor ema = ema_of(name);
    return ema ? ema : otherwise;
  };
  model_.visit({.parameter =
                    [&](Parameter& p) {
                      state.add(p.name, to_host(value(p.name, p.value), p.torch_shape));
                      if (p.mask) state.add(p.name + kMaskSuffix, mask_to_host(p));
                    },
                .buffer = [&](Buffer& b) { state.add(b.name, to_host(value(b.name, b.value), b.torch_shape)); },
                .counter = [&](Counter& c) { state.add(c.name, HostTensor::from_i64({}, {{c.value}})); }});
  return state;
}

void ModelEma::restore(const StateDict& state) {
  const auto read = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    Tensor ema = ema_of(name);
    if (ema) from_host(state.at(name), shape, ema);
  };
  model_.visit({.parameter = [&](Parameter& p) { read(p.name, p.torch_shape); },
                .buffer = [&](Buffer& b) { read(b.name, b.torch_shape); },
                .counter = {}});
}

}  // namespace frost
