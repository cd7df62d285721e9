#include "engine/training/average.h"

#include <set>

#include "engine/checkpoint/packed.h"

namespace frost {
namespace {
std::vector<Buffer*> moving(Module& model, const std::function<bool(const Buffer&)>& moves) {
  std::vector<Buffer*> chosen;
  for (Buffer* buffer : model.buffers())
    if (moves(*buffer)) chosen.push_back(buffer);
  return chosen;
}
}  // namespace

std::function<bool(const Buffer&)> moving_statistics(Module& model, FrozenBn frozen_bn) {
  std::set<std::string> names;
  model.walk([&](const std::string&, Module& module) {
    const auto* bn = dynamic_cast<BatchNorm2d*>(&module);
    if (bn && (!bn->frozen() || frozen_bn == FrozenBn::batch)) names.insert({bn->running_mean.name, bn->running_var.name});
  });
  return [names](const Buffer& buffer) { return names.contains(buffer.name); };
}

ModelAverage::ModelAverage(Device& device, Module& model, ParameterArena& arena,
                           const std::function<bool(const Buffer&)>& moves)
    : model_(model), buffers_(device, moving(model, moves)) {
  for (ParameterGroup& group : arena.groups())
    for (std::size_t i = 0; i < group.members.size(); ++i)
      averages_[group.members[i]->name] = group.ema.part(group.offsets[i], group.members[i]->value.shape());
  for (std::size_t i = 0; i < buffers_.buffers().size(); ++i) averages_[buffers_.buffers()[i]->name] = buffers_.average(i);
}

Tensor ModelAverage::average_of(const std::string& name) const {
  const auto it = averages_.find(name);
  return it == averages_.end() ? Tensor() : it->second;
}

void ModelAverage::write_to(Module& twin) const {
  std::unordered_map<std::string, Tensor> sources;
  std::unordered_map<std::string, std::int64_t> counters;
  model_.visit({.parameter = [&](Parameter& p) { sources[p.name] = p.value; },
                .buffer = [&](Buffer& b) { sources[b.name] = b.value; },
                .counter = [&](Counter& c) { counters[c.name] = c.value; }});
  const auto write = [&](const std::string& name, Tensor& target) {
    const Tensor average = average_of(name);
    if (average) {
      target.backend().copy({.x = average, .y = target});
      return true;
    }
    const bool changed = target.data() != sources.at(name).data();
    target = sources.at(name);  // frozen: the same memory
    return changed;
  };
  twin.visit({.parameter =
                  [&](Parameter& p) {
                    if (write(p.name, p.value)) p.touch();
                  },
              .buffer =
                  [&](Buffer& b) {
                    if (write(b.name, b.value)) b.touch();
                  },
              .counter = [&](Counter& c) { c.value = counters.at(c.name); }});
}

StateDict ModelAverage::state() const {
  StateDict state;
  const auto value = [&](const std::string& name, const Tensor& otherwise) {
    const Tensor average = average_of(name);
    return average ? average : otherwise;
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

void ModelAverage::restore(const StateDict& state) {
  const auto read = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    Tensor average = average_of(name);
    if (average) from_host(state.at(name), shape, average);
  };
  model_.visit({.parameter = [&](Parameter& p) { read(p.name, p.torch_shape); },
                .buffer = [&](Buffer& b) { read(b.name, b.torch_shape); },
                .counter = {}});
}

}  // namespace frost
