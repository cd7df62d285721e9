#include "models/slim/prune.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "engine/checkpoint/host_tensor.h"
#include "engine/checkpoint/module_state.h"

namespace frost::slim {
namespace {

std::vector<float> torch_order(const Parameter& p) { return to_host(p.value, p.torch_shape).to_f32(); }

std::vector<bool> complement(std::vector<bool> flags) {
  flags.flip();
  return flags;
}

}  // namespace

std::vector<Conv2d*> prunable(Module& model) {
  std::vector<Conv2d*> found;
  model.walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) found.push_back(conv);
  });
  return found;
}

std::int64_t pruned_count(double amount, std::int64_t n) {
  FROST_CHECK(amount >= 0 && amount <= 1, "pruning: the amount is ", amount, ", expected 0 to 1");
  return std::llrint(amount * static_cast<double>(n));  // the rounding mode is to nearest, ties to even
}

std::vector<bool> smallest(const std::vector<float>& values, std::int64_t count) {
  std::vector<bool> taken(values.size(), false);
  if (count <= 0) return taken;
  using Entry = std::pair<float, std::int64_t>;  // magnitude, index
  std::vector<Entry> queue(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) queue[i] = {std::abs(values[i]), static_cast<std::int64_t>(i)};
  // By magnitude alone, NaN last: what equal magnitudes do is left to the algorithm, and so is the choice among them.
  const auto less = [](const Entry& a, const Entry& b) {
    return (!std::isnan(a.first) && std::isnan(b.first)) || a.first < b.first;
  };
  const auto last = queue.begin() + count;
  if (count * 64 <= static_cast<std::int64_t>(values.size()))
    std::partial_sort(queue.begin(), last, queue.end(), less);
  else
    std::nth_element(queue.begin(), last - 1, queue.end(), less);
  for (auto it = queue.begin(); it != last; ++it) taken[static_cast<std::size_t>(it->second)] = true;
  return taken;
}

void set_mask(Parameter& p, const std::vector<bool>& keep) {
  std::vector<float> values = torch_order(p), mask(values.size());
  FROST_CHECK(keep.size() == values.size(), p.name, ": a mask of ", keep.size(), " for ", values.size(), " values");
  // Weights masked earlier stay masked.
  const std::vector<float> before =
      p.mask ? to_host(p.mask, p.torch_shape).to_f32() : std::vector<float>(values.size(), 1.0f);
  for (std::size_t i = 0; i < values.size(); ++i) {
    mask[i] = keep[i] ? before[i] : 0.0f;
    if (mask[i] == 0.0f) values[i] = 0.0f;
  }
  from_host(HostTensor::from_f32(p.torch_shape, values), p.torch_shape, p.value);
  if (!p.mask) p.mask = Tensor(p.value.device(), p.value.shape(), DType::f32, Role::parameter);
  from_host(HostTensor::from_f32(p.torch_shape, mask), p.torch_shape, p.mask);
  p.touch();
}

void mask_smallest(Parameter& p, double amount) {
  const std::vector<float> values = torch_order(p);
  const std::int64_t count = pruned_count(amount, static_cast<std::int64_t>(values.size()));
  if (count > 0) set_mask(p, complement(smallest(values, count)));
}

void prune_l1(Module& model, double amount) {
  for (Conv2d* conv : prunable(model)) mask_smallest(conv->weight, amount);
}

void prune_global(Module& model, double amount) {
  const std::vector<Conv2d*> convs = prunable(model);
  std::vector<float> all;
  for (Conv2d* conv : convs) {
    const std::vector<float> values = torch_order(conv->weight);
    all.insert(all.end(), values.begin(), values.end());
  }
  const std::vector<bool> keep = complement(smallest(all, pruned_count(amount, static_cast<std::int64_t>(all.size()))));
  auto first = keep.begin();
  for (Conv2d* conv : convs) {
    const auto last = first + conv->weight.value.elements();
    if (std::find(first, last, false) != last) set_mask(conv->weight, {first, last});
    first = last;
  }
}

std::vector<std::string> prune_n_of_m(Module& model, int n, int m) {
  FROST_CHECK(n > 0 && n < m && m <= 64, "pruning: the pattern ", n, ":", m, " should keep some but not all of up to 64");
  std::vector<std::string> dense;
  for (Conv2d* conv : prunable(model)) {
    const std::vector<std::int64_t>& shape = conv->weight.torch_shape;
    const std::int64_t in = shape[1], pixels = shape[2] * shape[3];
    if (in % m != 0) {
      dense.push_back(conv->weight.name);
      continue;
    }
    const std::vector<float> values = torch_order(conv->weight);
    std::vector<bool> keep(values.size(), true);
    std::vector<std::size_t> places(static_cast<std::size_t>(m));
    for (std::int64_t o = 0; o < shape[0]; ++o)
      for (std::int64_t i = 0; i < in; i += m)
        for (std::int64_t p = 0; p < pixels; ++p) {
          for (int k = 0; k < m; ++k)
            places[static_cast<std::size_t>(k)] = static_cast<std::size_t>((o * in + i + k) * pixels + p);
          std::stable_sort(places.begin(), places.end(),
                           [&](std::size_t a, std::size_t b) { return std::abs(values[a]) < std::abs(values[b]); });
          for (int k = 0; k < m - n; ++k) keep[places[static_cast<std::size_t>(k)]] = false;
        }
    set_mask(conv->weight, keep);
  }
  return dense;
}

Sparsity sparsity(Module& model) {
  Sparsity s;
  for (const Parameter* p : model.parameters()) {
    const std::vector<float> values = p->value.to_vector();
    s.parameters += static_cast<std::int64_t>(values.size());
    s.zeros += std::count(values.begin(), values.end(), 0.0f);
  }
  for (const Conv2d* conv : prunable(model)) {
    const std::vector<float> values = conv->weight.value.to_vector();
    s.layers.push_back({.name = conv->weight.name,
                        .shape = conv->weight.torch_shape,
                        .zeros = std::count(values.begin(), values.end(), 0.0f),
                        .count = static_cast<std::int64_t>(values.size()),
                        .masked = bool(conv->weight.mask)});
    s.weight_zeros += s.layers.back().zeros;
    s.weights += s.layers.back().count;
  }
  return s;
}

std::string sparsity_table(const Sparsity& s) {
  std::size_t width = 24;
  for (const LayerSparsity& layer : s.layers) width = std::max(width, layer.name.size());
  const auto row = [&](const std::string& name, const std::string& shape, std::int64_t count, std::int64_t zeros) {
    const double share = count ? static_cast<double>(zeros) / static_cast<double>(count) : 0;
    return fmt::format("{:<{}}{:>16}{:>12}{:>12}{:>11.4f}\n", name, width, shape, count, zeros, share);
  };
  std::string text =
      fmt::format("{:<{}}{:>16}{:>12}{:>12}{:>11}\n", "layer", width, "shape", "weights", "zeros", "sparsity");
  for (const LayerSparsity& layer : s.layers) text += row(layer.name, shape_text(layer.shape), layer.count, layer.zeros);
  text += row("all convolutions", "", s.weights, s.weight_zeros);
  text += row("all parameters", "", s.parameters, s.zeros);
  return text;
}

std::string pruned_line(const Sparsity& s) { return fmt::format("Model pruned to {:.3g} global sparsity", s.global()); }

std::string sparsity_line(const Sparsity& s) {
  const auto masked =
      std::count_if(s.layers.begin(), s.layers.end(), [](const LayerSparsity& layer) { return layer.masked; });
  if (masked == 0) return "";
  return fmt::format("sparsity {:.3g} ({} of {} convolutions masked)", s.global(), masked, s.layers.size());
}

}  // namespace frost::slim
