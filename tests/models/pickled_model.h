#pragma once
#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/graph/blocks.h"
#include "models/graph/module_settings.h"
#include "tests/engine/torch_builder.h"

/// A network of frost as PyTorch would pickle it: its modules with what they say of themselves, its tensors all views of one
/// storage of zeros.
namespace frost::build {

/// One module before it is written; a test changes what it likes.
struct PickledNode {
  std::string package, type;
  Pairs attributes{}, parameters{}, buffers{};
  std::vector<std::string> children{};  // their names, in order

  void say(const std::string& attribute, const std::string& value) {
    std::erase_if(attributes, [&](const auto& item) { return item.first == attribute; });
    attributes.emplace_back(attribute, value);
  }
};
using PickledNodes = std::map<std::string, PickledNode>;  // by path; "" is the network

inline std::string setting_value(const std::string& text) {
  if (text == "null") return none();
  if (text == "True" || text == "False") return boolean(text == "True");
  if (text.find_first_not_of("0123456789.e-") != text.npos) return build::text(text);
  return text.find_first_of(".e") == text.npos ? integer(std::stoi(text)) : real(std::stod(text));
}

inline PickledNode activation_node(const std::string& text) {  // "nn.LeakyReLU(0.1)"
  PickledNode node{"torch.nn.modules.activation", text.substr(3, text.find('(') - 3)};
  if (node.type == "LeakyReLU") node.say("negative_slope", real(std::stod(text.substr(text.find('(') + 1))));
  return node;
}

class PickledModel {
 public:
  /// `package`: of modules that are not PyTorch's own.
  PickledModel(Module& model, const std::string& package) {
    model.walk([&](const std::string& path, Module& module) {
      const std::size_t dot = path.rfind('.');
      if (!path.empty()) {
        PickledNode& parent = nodes[dot == path.npos ? "" : path.substr(0, dot)];
        parent.children.push_back(path.substr(dot == path.npos ? 0 : dot + 1));
      }
      const std::string kind = module.torch_class(), act = setting_of(module, "act");
      PickledNode& node = nodes[path];
      if (kind == "Activation") {
        node = activation_node(act);
        return;
      }
      static const std::vector<std::string> own{"AdaptiveAvgPool2d", "BatchNorm2d", "Conv2d",    "Dropout", "Linear",
                                                "MaxPool2d",         "Upsample",    "Sequential"};
      node.package = std::ranges::find(own, kind) != own.end() ? "torch.nn.modules.some" : package;
      node.type = kind;
      for (const std::string& attribute : attributes_of(kind))
        if (attribute != "act") node.say(attribute, setting_value(setting_of(module, attribute)));
      if (const auto* conv = dynamic_cast<Conv2d*>(&module)) {
        node.say("kernel_size", integers({conv->geometry.kernel_h, conv->geometry.kernel_w}));
        node.say("in_channels", integer(static_cast<std::int32_t>(conv->in)));
        node.say("out_channels", integer(static_cast<std::int32_t>(conv->out)));
      }
      if (const auto* bn = dynamic_cast<BatchNorm2d*>(&module))
        node.say("num_features", integer(static_cast<std::int32_t>(bn->channels)));
      if (!act.empty()) nodes[path + ".act"] = activation_node(act);
    });
    for (auto& [path, node] : nodes)
      if (nodes.contains((path.empty() ? "" : path + ".") + "act") &&
          std::ranges::find(node.children, "act") == node.children.end())
        node.children.push_back("act");
    const auto measure = [&](const auto& t) {
      elements_ = std::max(elements_, static_cast<std::int32_t>(t.value.elements()));
    };
    model.visit({.parameter = measure, .buffer = measure, .counter = {}});
    model.visit({.parameter = [&](Parameter& p) { owner(p.name).parameters.push_back(view(p.name, p.torch_shape)); },
                 .buffer = [&](Buffer& b) { owner(b.name).buffers.push_back(view(b.name, b.torch_shape)); },
                 .counter = {}});
  }

  std::string object(const std::string& path = "") const {
    const PickledNode& node = nodes.at(path);
    Pairs children;
    for (const std::string& name : node.children)
      children.emplace_back(name, object(path.empty() ? name : path + "." + name));
    Pairs all{
        {"_parameters", ordered(node.parameters)}, {"_buffers", ordered(node.buffers)}, {"_modules", ordered(children)}};
    all.insert(all.end(), node.attributes.begin(), node.attributes.end());
    return build::object(node.package, node.type, all);
  }
  /// The file of torch.save({"model": network, "ema": None}), or of what `root` makes of the network.
  std::string file(const std::function<std::string(const std::string&)>& root = {}) const {
    const std::string network = object();
    Pairs storages = storages_;
    storages.emplace_back("0", std::string(static_cast<std::size_t>(elements_) * 2, '\0'));
    return torch_zip(pickled(root ? root(network) : dict({{"model", network}, {"ema", none()}})), storages);
  }
  /// A tensor of these values, with a storage of its own.
  std::string own_tensor(const std::vector<float>& values, const std::vector<std::int32_t>& size) {
    const std::string key = std::to_string(storages_.size() + 1);
    std::vector<std::int32_t> stride(size.size(), 1);
    for (std::size_t d = size.size(); d-- > 1;) stride[d - 1] = stride[d] * size[d];
    storages_.emplace_back(key, raw(values));
    return tensor(storage("FloatStorage", key, static_cast<std::int32_t>(values.size())), 0, size, stride);
  }
  /// Leaves the tensors out, for networks whose file would be large.
  void drop_tensors() {
    for (auto& [path, node] : nodes) node.parameters.clear(), node.buffers.clear();
    elements_ = 1;
  }
  PickledNode& operator[](const std::string& path) { return nodes.at(path); }

  PickledNodes nodes;

 private:
  PickledNode& owner(const std::string& tensor) { return nodes.at(tensor.substr(0, tensor.rfind('.'))); }
  std::pair<std::string, std::string> view(const std::string& name, const std::vector<std::int64_t>& shape) const {
    const std::vector<std::int32_t> size(shape.begin(), shape.end());
    std::vector<std::int32_t> stride(size.size(), 1);
    for (std::size_t d = size.size(); d-- > 1;) stride[d - 1] = stride[d] * size[d];
    return {name.substr(name.rfind('.') + 1), tensor(storage("HalfStorage", "0", elements_), 0, size, stride)};
  }

  std::int32_t elements_ = 0;  // of the storage
  Pairs storages_;             // further ones
};

}  // namespace frost::build
