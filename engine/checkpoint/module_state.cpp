#include "engine/checkpoint/module_state.h"

#include <set>

namespace frost {
namespace {

/// Weights of convolutions and linear layers: kept OHWI.
bool is_filter(const std::vector<std::int64_t>& torch_shape) { return torch_shape.size() == 4 || torch_shape.size() == 2; }

// Walks both orders at once: f(index in OIHW, index in OHWI).
template <class F>
void for_each_filter_value(const Shape& ohwi, F&& f) {
  const std::int64_t out = ohwi.n, in = ohwi.c, pixels = ohwi.h * ohwi.w;
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t i = 0; i < in; ++i)
      for (std::int64_t p = 0; p < pixels; ++p)
        f(static_cast<std::size_t>((o * in + i) * pixels + p), static_cast<std::size_t>((o * pixels + p) * in + i));
}

}  // namespace

HostTensor to_host(const Tensor& value, const std::vector<std::int64_t>& torch_shape) {
  const std::vector<float> ours = value.to_vector();
  if (!is_filter(torch_shape)) return HostTensor::from_f32(torch_shape, ours);
  std::vector<float> theirs(ours.size());
  for_each_filter_value(value.shape(), [&](std::size_t oihw, std::size_t ohwi) { theirs[oihw] = ours[ohwi]; });
  return HostTensor::from_f32(torch_shape, theirs);
}

void from_host(const HostTensor& source, const std::vector<std::int64_t>& torch_shape, Tensor& target) {
  FROST_CHECK(source.shape == torch_shape, "state: shape ", shape_text(source.shape), ", expected ",
              shape_text(torch_shape));
  std::vector<float> theirs = source.to_f32();
  if (is_filter(torch_shape)) {
    std::vector<float> ours(theirs.size());
    for_each_filter_value(target.shape(), [&](std::size_t oihw, std::size_t ohwi) { ours[ohwi] = theirs[oihw]; });
    theirs = std::move(ours);
  }
  target.assign(theirs);
}

StateDict state_of(Module& module) {
  StateDict state;
  module.visit({.parameter = [&](Parameter& p) { state.add(p.name, to_host(p.value, p.torch_shape)); },
                .buffer = [&](Buffer& b) { state.add(b.name, to_host(b.value, b.torch_shape)); },
                .counter = [&](Counter& c) { state.add(c.name, HostTensor::from_i64({}, {{c.value}})); }});
  return state;
}

LoadReport load_state(Module& module, const StateDict& source, const std::function<bool(const std::string&)>& skip) {
  LoadReport report;
  std::set<std::string> known;
  const auto find = [&](const std::string& name, const std::vector<std::int64_t>& shape) -> const HostTensor* {
    ++report.total;
    known.insert(name);
    if (skip && skip(name)) return nullptr;
    const HostTensor* tensor = source.find(name);
    if (!tensor) {
      report.missing.push_back(name);
      return nullptr;
    }
    if (tensor->shape != shape) {
      report.other_shape.push_back(name + ": " + shape_text(tensor->shape) + " in the file, " + shape_text(shape) + " here");
      return nullptr;
    }
    ++report.copied;
    return tensor;
  };
  module.visit({.parameter =
                    [&](Parameter& p) {
                      if (const HostTensor* t = find(p.name, p.torch_shape))
                        from_host(*t, p.torch_shape, p.value), p.touch();
                    },
                .buffer =
                    [&](Buffer& b) {
                      if (const HostTensor* t = find(b.name, b.torch_shape))
                        from_host(*t, b.torch_shape, b.value), b.touch();
                    },
                .counter =
                    [&](Counter& c) {
                      if (const HostTensor* t = find(c.name, {})) c.value = static_cast<std::int64_t>(t->to_f64()[0]);
                    }});
  for (const auto& [name, tensor] : source)
    if (!known.contains(name)) report.unexpected.push_back(name);
  return report;
}

}  // namespace frost
