#include "models/slim/filters.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string_view>

#include "engine/checkpoint/module_state.h"

namespace frost::slim {
namespace {

/// Joins channels that belong together: union-find, in which a class joined with kFixed becomes fixed.
class Classes {
 public:
  std::vector<int> fresh(std::int64_t count) {
    std::vector<int> ids(static_cast<std::size_t>(count));
    std::iota(ids.begin(), ids.end(), static_cast<int>(parent_.size()));
    parent_.insert(parent_.end(), ids.begin(), ids.end());
    return ids;
  }
  int find(int id) {
    while (id != ChannelGraph::kFixed && parent_[static_cast<std::size_t>(id)] != id)
      id = parent_[static_cast<std::size_t>(id)];
    return id;
  }
  void join(int a, int b) {
    a = find(a), b = find(b);
    if (a == b) return;
    if (a == ChannelGraph::kFixed) std::swap(a, b);
    parent_[static_cast<std::size_t>(a)] = b;
  }
  void join(const std::vector<int>& a, const std::vector<int>& b) {
    FROST_CHECK(a.size() == b.size(), "pruning filters: ", a.size(), " channels meet ", b.size());
    for (std::size_t i = 0; i < a.size(); ++i) join(a[i], b[i]);
  }
  void fix(const std::vector<int>& ids) {
    for (const int id : ids) join(id, ChannelGraph::kFixed);
  }
  /// Replaces ids by numbers from 0, those of one class alike; the same for every call.
  void number(std::vector<int>& ids) {
    for (int& id : ids) {
      const int root = find(id);
      id = root == ChannelGraph::kFixed ? root : numbers_.emplace(root, static_cast<int>(numbers_.size())).first->second;
    }
  }
  int count() const { return static_cast<int>(numbers_.size()); }

 private:
  std::vector<int> parent_;
  std::map<int, int> numbers_;
};

std::vector<std::vector<int>> groups_of(const ChannelGraph& graph) {
  std::vector<std::set<std::size_t>> writers(static_cast<std::size_t>(graph.classes));
  for (std::size_t k = 0; k < graph.convs.size(); ++k)
    for (const int c : graph.convs[k].out)
      if (c != ChannelGraph::kFixed) writers[static_cast<std::size_t>(c)].insert(k);
  std::map<std::set<std::size_t>, std::vector<int>> groups;
  for (int c = 0; c < graph.classes; ++c) groups[writers[static_cast<std::size_t>(c)]].push_back(c);
  std::vector<std::vector<int>> list;
  for (auto& [writer, members] : groups) list.push_back(std::move(members));
  return list;
}

bool passes_channels_on(std::string_view op) {
  for (const char* one : {"activation", "as_type", "average_pool", "dropout", "max_pool", "upsample", "zero_pad"})
    if (op == one) return true;
  return false;
}

bool stays(int c, const std::vector<bool>& keep) { return c == ChannelGraph::kFixed || keep[static_cast<std::size_t>(c)]; }

std::vector<std::size_t> kept(const std::vector<int>& channels, const std::vector<bool>& keep) {
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < channels.size(); ++i)
    if (stays(channels[i], keep)) places.push_back(i);
  return places;
}

/// Rows `out` and columns `in` of a (out, in, h, w) or (out) tensor.
HostTensor selected(const HostTensor& tensor, const std::vector<std::size_t>& out, const std::vector<std::size_t>& in) {
  const std::vector<float> values = tensor.to_f32();
  std::vector<std::int64_t> shape = tensor.shape;
  std::size_t columns = 1, each = 1;
  if (shape.size() == 4) columns = static_cast<std::size_t>(shape[1]), each = static_cast<std::size_t>(shape[2] * shape[3]);
  std::vector<float> chosen;
  for (const std::size_t o : out)
    for (const std::size_t i : in) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>((o * columns + i) * each);
      chosen.insert(chosen.end(), first, first + static_cast<std::ptrdiff_t>(each));
    }
  shape[0] = static_cast<std::int64_t>(out.size());
  if (shape.size() == 4) shape[1] = static_cast<std::int64_t>(in.size());
  return HostTensor::from_f32(shape, chosen);
}

/// The classes that stay if the `gone` least important of all are given up, group by group.
std::vector<bool> kept_without(const ChannelGraph& graph, const std::vector<double>& importance,
                               const std::vector<int>& order, std::size_t gone, std::int64_t multiple) {
  std::vector<bool> wanted(static_cast<std::size_t>(graph.classes), true), keep(wanted.size(), false);
  for (std::size_t k = 0; k < gone; ++k) wanted[static_cast<std::size_t>(order[k])] = false;
  for (std::vector<int> group : graph.groups) {
    const auto size = static_cast<std::int64_t>(group.size());
    const auto stay = std::count_if(group.begin(), group.end(), [&](int c) { return wanted[static_cast<std::size_t>(c)]; });
    const std::int64_t least = std::max<std::int64_t>({stay, (size + 7) / 8, 1});
    const std::int64_t count = std::min((least + multiple - 1) / multiple * multiple, size);
    std::stable_sort(group.begin(), group.end(), [&](int a, int b) {
      return importance[static_cast<std::size_t>(a)] > importance[static_cast<std::size_t>(b)];
    });
    for (std::int64_t i = 0; i < count; ++i) keep[static_cast<std::size_t>(group[static_cast<std::size_t>(i)])] = true;
  }
  return keep;
}

}  // namespace

ChannelGraph trace_channels(Device& device, Module& model, const Shape& image,
                            const std::function<std::vector<Var>(Context&, const Var&)>& forward) {
  std::map<const Parameter*, Conv2d*> convs;
  std::map<const Parameter*, BatchNorm2d*> norms;
  model.walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) convs[&conv->weight] = conv;
    if (auto* bn = dynamic_cast<BatchNorm2d*>(&module)) norms[&bn->weight] = bn;
  });
  // The image wants a gradient, so every operator is recorded, whatever is frozen; in evaluation, so nothing moves.
  Tape tape;
  Profile profile;
  Context context{.device = device, .tape = &tape, .profile = &profile};
  const Var x = tape.leaf(Tensor::zeros(device, image, DType::f32, Role::input));
  const std::vector<Var> outputs = forward(context, x);

  Classes classes;
  ChannelGraph graph;
  std::map<int, std::vector<int>> channels;  // of each slot
  channels[x.slot] = std::vector<int>(static_cast<std::size_t>(image.c), ChannelGraph::kFixed);
  std::map<const Conv2d*, std::size_t> known;
  std::size_t call = 0;
  for (const auto& node : tape.recorded()) {
    const std::string_view name = node->name();
    const std::vector<int>& inputs = node->inputs();
    std::vector<int> in = channels.at(inputs[0]), out;
    if (name == "conv2d") {
      Conv2d& conv = *convs.at(node->applied());
      const Profile::ConvCall& done = profile.calls.at(call++);
      out = conv.depthwise() ? in : classes.fresh(conv.out);
      if (conv.geometry.groups > 1 && !conv.depthwise()) classes.fix(in), classes.fix(out);
      const std::int64_t pixels =
          done.geometry.output(done.x, 1).elements() * done.geometry.kernel_h * done.geometry.kernel_w;
      const auto [place, first] = known.emplace(&conv, graph.convs.size());
      if (first) {
        graph.convs.push_back({.conv = &conv, .in = in, .out = out, .pixels = pixels});
      } else {  // one convolution in two places
        ChannelGraph::Conv& earlier = graph.convs[place->second];
        classes.join(in, earlier.in), classes.join(out, earlier.out);
        earlier.pixels += pixels;
      }
    } else if (name == "norm_act") {
      out = in;
      graph.norms.push_back({.bn = norms.at(node->applied()), .channels = in});
      if (inputs.size() > 1) classes.join(out, channels.at(inputs[1]));
    } else if (name == "add" || name == "mul") {  // a factor for each channel is a value for each
      out = in;
      classes.join(out, channels.at(inputs[1]));
    } else if (name == "concat") {
      out.clear();
      for (const int input : inputs) out.insert(out.end(), channels.at(input).begin(), channels.at(input).end());
    } else if (name == "linear") {  // its inputs stay, and so do its outputs
      classes.fix(in);
      out.assign(1, ChannelGraph::kFixed);
    } else if (passes_channels_on(name)) {
      out = in;
    } else if (name == "space_to_depth") {
      classes.fix(in);
      out.assign(4 * in.size(), ChannelGraph::kFixed);
    } else {
      fail("pruning filters: channels cannot be followed through '", std::string(name), "'");
    }
    channels[node->output()] = std::move(out);
  }
  for (const Var& output : outputs) classes.fix(channels.at(output.slot));
  for (ChannelGraph::Conv& conv : graph.convs) classes.number(conv.in), classes.number(conv.out);
  for (ChannelGraph::Norm& norm : graph.norms) classes.number(norm.channels);
  graph.classes = classes.count();
  graph.groups = groups_of(graph);
  return graph;
}

double ChannelGraph::work(const std::vector<bool>& keep) const {
  double sum = 0;
  for (const Conv& c : convs) {
    const auto in = static_cast<double>(kept(c.in, keep).size()), out = static_cast<double>(kept(c.out, keep).size());
    const double groups = c.conv->depthwise() ? in : static_cast<double>(c.conv->geometry.groups);
    sum += static_cast<double>(c.pixels) * in * out / groups;
  }
  return sum;
}

std::vector<double> channel_importance(const ChannelGraph& graph, Importance importance) {
  std::vector<double> sum(static_cast<std::size_t>(graph.classes), 0), votes(sum.size(), 0);
  const auto vote = [&](const std::vector<int>& channels, const std::vector<double>& values) {
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (channels[i] == ChannelGraph::kFixed) continue;
      sum[static_cast<std::size_t>(channels[i])] += mean > 0 ? values[i] / mean : 1.0;
      votes[static_cast<std::size_t>(channels[i])] += 1;
    }
  };
  if (importance == Importance::bn)
    for (const ChannelGraph::Norm& norm : graph.norms) {
      const std::vector<float> gamma = norm.bn->weight.value.to_vector();
      std::vector<double> scale(gamma.size());
      std::ranges::transform(gamma, scale.begin(), [](float g) { return std::abs(static_cast<double>(g)); });
      vote(norm.channels, scale);
    }
  const std::vector<double> by_norm = votes;
  for (const ChannelGraph::Conv& c : graph.convs) {                      // with `bn`: only where no norm gave an importance
    const std::vector<float> weight = c.conv->weight.value.to_vector();  // OHWI: a filter is contiguous
    const std::size_t each = weight.size() / c.out.size();
    std::vector<double> norm(c.out.size(), 0);
    for (std::size_t i = 0; i < weight.size(); ++i) norm[i / each] += std::abs(static_cast<double>(weight[i]));
    std::vector<int> silent = c.out;
    for (int& k : silent)
      if (k != ChannelGraph::kFixed && by_norm[static_cast<std::size_t>(k)] > 0) k = ChannelGraph::kFixed;
    vote(silent, norm);
  }
  for (std::size_t k = 0; k < sum.size(); ++k) sum[k] /= std::max(votes[k], 1.0);
  return sum;
}

std::vector<bool> choose_channels(const ChannelGraph& graph, const std::vector<double>& importance, double amount,
                                  std::int64_t multiple) {
  FROST_CHECK(amount >= 0 && amount < 1, "pruning filters: the amount is ", amount, ", expected 0 to 1");
  std::vector<int> order(static_cast<std::size_t>(graph.classes));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return importance[static_cast<std::size_t>(a)] < importance[static_cast<std::size_t>(b)];
  });
  const double dense = graph.work(std::vector<bool>(order.size(), true));
  const auto removed = [&](std::size_t gone) {
    return 1 - graph.work(kept_without(graph, importance, order, gone, multiple)) / dense;
  };
  FROST_CHECK(removed(order.size()) >= amount, "pruning filters: ", amount, " of the FLOPs cannot be removed, at most ",
              removed(order.size()));
  std::size_t enough = order.size(), less = 0;  // more given up never means more work: halve the interval
  if (amount <= 0) enough = 0;
  while (enough > less + 1) {
    const std::size_t middle = (enough + less) / 2;
    (removed(middle) >= amount ? enough : less) = middle;
  }
  return kept_without(graph, importance, order, enough, multiple);
}

void remove_channels(const ChannelGraph& graph, const std::vector<bool>& keep) {
  const std::vector<std::size_t> only{0};
  for (const ChannelGraph::Conv& c : graph.convs) {
    Conv2d& conv = *c.conv;
    const std::vector<std::size_t> out = kept(c.out, keep), in = kept(c.in, keep);
    if (out.size() == c.out.size() && in.size() == c.in.size()) continue;
    FROST_CHECK(conv.geometry.groups == 1 || conv.depthwise(), conv.name(), ": filters of groups cannot be removed");
    const std::vector<std::size_t>& columns = conv.depthwise() ? only : in;
    const auto shrunk = [&](const Tensor& value, const Parameter& p) {
      return selected(to_host(value, p.torch_shape), out, p.torch_shape.size() == 4 ? columns : only);
    };
    const HostTensor weight = shrunk(conv.weight.value, conv.weight);
    const HostTensor bias = conv.bias ? shrunk(conv.bias->value, *conv.bias) : HostTensor();
    const HostTensor mask = conv.weight.mask ? shrunk(conv.weight.mask, conv.weight) : HostTensor();
    conv.resize(static_cast<std::int64_t>(in.size()), static_cast<std::int64_t>(out.size()));
    from_host(weight, conv.weight.torch_shape, conv.weight.value);
    if (conv.bias) from_host(bias, conv.bias->torch_shape, conv.bias->value);
    if (!mask.bytes.empty()) {
      conv.weight.mask = Tensor(conv.weight.value.device(), conv.weight.value.shape(), DType::f32, Role::parameter);
      from_host(mask, conv.weight.torch_shape, conv.weight.mask);
    }
  }
  for (const ChannelGraph::Norm& norm : graph.norms) {
    BatchNorm2d& bn = *norm.bn;
    const std::vector<std::size_t> places = kept(norm.channels, keep);
    if (static_cast<std::int64_t>(places.size()) == bn.channels) continue;  // also where a norm is passed twice
    const std::vector<std::int64_t> old = bn.weight.torch_shape;
    std::vector<HostTensor> values;
    for (const Tensor* t : {&bn.weight.value, &bn.bias.value, &bn.running_mean.value, &bn.running_var.value})
      values.push_back(selected(to_host(*t, old), places, only));
    bn.resize(static_cast<std::int64_t>(places.size()));
    std::size_t next = 0;
    for (Tensor* t : {&bn.weight.value, &bn.bias.value, &bn.running_mean.value, &bn.running_var.value})
      from_host(values[next++], bn.weight.torch_shape, *t);
  }
}

}  // namespace frost::slim
