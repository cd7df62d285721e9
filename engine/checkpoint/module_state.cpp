#include "engine/checkpoint/module_state.h"

#include <algorithm>
#include <set>

#include "engine/checkpoint/sparse_checkpoint.h"

namespace frost {
namespace {

/// Weights of convolutions and linear layers: kept OHWI.
bool is_filter(const std::vector<std::int64_t>& torch_shape) { return torch_shape.size() == 4 || torch_shape.size() == 2; }

// Loops over both orders at once: f(index in OIHW, index in OHWI).
template <class F>
void for_each_filter_value(const Shape& ohwi, F&& f) {
  const std::int64_t out = ohwi.n, in = ohwi.c, pixels = ohwi.h * ohwi.w;
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t i = 0; i < in; ++i)
      for (std::int64_t p = 0; p < pixels; ++p)
        f(static_cast<std::size_t>((o * in + i) * pixels + p), static_cast<std::size_t>((o * pixels + p) * in + i));
}

void load_mask(Parameter& p, const HostTensor* mask) {
  if (!mask && !p.mask) return;
  if (mask) {
    FROST_CHECK(mask->shape == p.torch_shape, p.name, ": a mask of shape ", shape_text(mask->shape), ", expected ",
                shape_text(p.torch_shape));
    for (const float flag : mask->to_f32())
      FROST_CHECK(flag == 0.0f || flag == 1.0f, p.name, ": its mask holds ", flag, ", neither 0 nor 1");
  }
  if (!p.mask) p.mask = Tensor(p.value.device(), p.value.shape(), DType::f32, Role::parameter);
  if (mask)
    from_host(*mask, p.torch_shape, p.mask);
  else
    p.mask.assign(std::vector<float>(static_cast<std::size_t>(p.mask.elements()), 1.0f));
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

HostTensor mask_to_host(const Parameter& p) {
  const std::vector<float> flags = to_host(p.mask, p.torch_shape).to_f32();
  HostTensor mask{DType::u8, p.torch_shape, std::vector<std::byte>(flags.size())};
  std::ranges::transform(flags, mask.bytes.begin(), [](float flag) { return flag != 0.0f ? std::byte{1} : std::byte{0}; });
  return mask;
}

StateDict state_of(Module& module) {
  StateDict state;
  module.visit({.parameter =
                    [&](Parameter& p) {
                      state.add(p.name, to_host(p.value, p.torch_shape));
                      if (p.mask) state.add(p.name + kMaskSuffix, mask_to_host(p));
                    },
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
                      known.insert(p.name + kMaskSuffix);
                      if (const HostTensor* t = find(p.name, p.torch_shape)) {
                        from_host(*t, p.torch_shape, p.value), p.touch();
                        load_mask(p, source.find(p.name + kMaskSuffix));
                      }
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
