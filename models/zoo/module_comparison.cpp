#include "models/zoo/module_comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "engine/checkpoint/budget.h"
#include "models/graph/registry.h"

namespace frost {
namespace {

std::string last_part(const std::string& dotted) { return dotted.substr(dotted.rfind('.') + 1); }

/// The class names under which PyTorch knows a module; empty: any.
std::vector<std::string> classes_of(Module& module) {
  const auto is = [&]<class M>(const M*) { return dynamic_cast<M*>(&module) != nullptr; };
  if (is(static_cast<ConvNormAct*>(nullptr))) return {"Conv", "DWConv"};
  if (is(static_cast<Conv2d*>(nullptr))) return {"Conv2d"};
  if (is(static_cast<BatchNorm2d*>(nullptr))) return {"BatchNorm2d", "SyncBatchNorm"};
  if (is(static_cast<AvgPool2d*>(nullptr))) return {"AvgPool2d"};
  if (is(static_cast<ZeroPad2d*>(nullptr))) return {"ZeroPad2d"};
  if (is(static_cast<Identity*>(nullptr))) return {"Identity"};
  if (is(static_cast<DropoutLayer*>(nullptr))) return {"Dropout"};
  if (is(static_cast<Linear*>(nullptr))) return {"Linear"};
  if (is(static_cast<MaxPool2d*>(nullptr))) return {"MaxPool2d"};
  if (is(static_cast<Upsample*>(nullptr))) return {"Upsample"};
  if (is(static_cast<Sequential*>(nullptr))) return {"Sequential", "ModuleList"};
  if (is(static_cast<Concat*>(nullptr))) return {"Concat"};
  if (is(static_cast<C3Ghost*>(nullptr))) return {"C3Ghost"};
  if (is(static_cast<C3*>(nullptr))) return {"C3"};
  if (is(static_cast<Bottleneck*>(nullptr))) return {"Bottleneck"};
  if (is(static_cast<BottleneckCSP*>(nullptr))) return {"BottleneckCSP"};
  if (is(static_cast<SPPF*>(nullptr))) return {"SPPF"};
  if (is(static_cast<SPP*>(nullptr))) return {"SPP"};
  if (is(static_cast<Focus*>(nullptr))) return {"Focus"};
  if (is(static_cast<GhostConv*>(nullptr))) return {"GhostConv"};
  if (is(static_cast<GhostBottleneck*>(nullptr))) return {"GhostBottleneck"};
  if (is(static_cast<Detect*>(nullptr))) return {"Detect"};
  return {};
}

bool honoured(Module& module, const std::string& attribute) {
  if (dynamic_cast<Conv2d*>(&module)) return attribute == "stride" || attribute == "padding" || attribute == "dilation";
  if (dynamic_cast<BatchNorm2d*>(&module)) return attribute == "eps" || attribute == "momentum";
  if (dynamic_cast<MaxPool2d*>(&module))
    return attribute == "kernel_size" || attribute == "stride" || attribute == "padding" || attribute == "ceil_mode";
  if (dynamic_cast<Upsample*>(&module) || dynamic_cast<Bottleneck*>(&module)) return true;  // all that they have
  return false;
}

/// "nn.LeakyReLU(0.1)" of a pickled activation.
std::string activation_of(const PickledModule& act) {
  const std::string kind = last_part(act.type);
  if (kind != "LeakyReLU") return "nn." + kind + "()";
  const auto slope = act.attributes.find("negative_slope");
  return "nn.LeakyReLU(" + (slope == act.attributes.end() ? "0.01" : slope->second) + ")";
}

/// A value as settings are written; "" where it is none of them.
std::string value_text(const TorchFile& file, pickle::Ref value, const std::string& attribute) {
  const pickle::Document& d = file.document();
  using pickle::Kind;
  if (d.is(value, Kind::none)) return "null";
  if (d.is(value, Kind::boolean)) return d[value].integer ? "True" : "False";
  if (d.is(value, Kind::text)) {
    std::string text = shortened(d[value].text);
    std::ranges::replace_if(
        text, [](unsigned char c) { return c < ' ' || c == 127; }, '?');  // stays one line
    return text;
  }
  constexpr std::size_t kMost = 64;
  const auto numbers = d[value].items.size() <= kMost ? d.numbers(value) : std::nullopt;
  if (!numbers || numbers->empty()) return shortened(file.describe(value));
  std::vector<std::string> texts;
  for (const double number : *numbers)  // norms hold theirs in f32
    texts.push_back(attribute == "eps" || attribute == "momentum" ? fmt::format("{}", static_cast<float>(number))
                                                                  : fmt::format("{}", number));
  const bool same = attribute != "f" && std::ranges::all_of(texts, [&](const auto& t) { return t == texts.front(); });
  return same || texts.size() == 1 ? texts.front() : fmt::format("[{}]", fmt::join(texts, ", "));
}

bool known_class(const std::string& type) {
  static const std::set<std::string> names{
      "Conv",   "DWConv", "Focus",   "Bottleneck", "BottleneckCSP",   "C3",      "C3Ghost", "SPP", "SPPF",
      "Concat", "Detect", "Segment", "GhostConv",  "GhostBottleneck", "Classify"};
  return type.starts_with("torch.nn.") || names.contains(last_part(type));
}

void collect_modules(const TorchFile& file, pickle::Ref module, const std::string& name, std::vector<PickledModule>& out) {
  const pickle::Document& d = file.document();
  PickledModule kept{name, std::string(d.symbol(module)), {}};
  const bool act = name.ends_with(".act");  // its class is compared as an activation
  FROST_CHECK(name.empty() || act || known_class(kept.type), file.path().string(), ": ", name, ": unknown module ",
              shortened(kept.type), module_hint(last_part(kept.type)));
  for (const char* attribute : {"kernel_size",      "stride",         "padding",       "dilation",  "groups",
                                "padding_mode",     "transposed",     "eps",           "momentum",  "size",
                                "scale_factor",     "mode",           "align_corners", "ceil_mode", "return_indices",
                                "divisor_override", "negative_slope", "add",           "d",         "f"})
    if (const pickle::Ref value = d.get(module, attribute); value != pickle::kNothing)
      kept.attributes[attribute] = value_text(file, value, attribute);
  out.push_back(std::move(kept));
  for (const auto& [key, child] : d.entries(d.get(module, "_modules")))
    if (d.is(child, pickle::Kind::object))
      collect_modules(file, child, name.empty() ? d[key].text : name + "." + d[key].text, out);
}

/// Tensors that a module has beyond those of its class, such as the bias of a convolution fused with its norm.
void check_tensors(Module& built, const std::map<std::string, Module*>& ours, const StateDict& state,
                   const std::string& file) {
  std::set<std::string> names;
  built.visit({.parameter = [&](Parameter& p) { names.insert(p.name); },
               .buffer = [&](Buffer& b) { names.insert(b.name); },
               .counter = [&](Counter& c) { names.insert(c.name); }});
  for (const auto& [name, tensor] : state) {
    if (names.contains(name)) continue;
    const auto dot = name.rfind('.');
    const auto owner = ours.find(name.substr(0, dot == name.npos ? 0 : dot));
    if (owner == ours.end() || dynamic_cast<Detect*>(owner->second)) continue;  // the head's grids are computed anew
    fail(file, ": ", owner->first.empty() ? "" : owner->first + ": ", "its ", name.substr(dot == name.npos ? 0 : dot + 1),
         " has no place in the network that the model's YAML asks for");
  }
}

}  // namespace

std::vector<PickledModule> pickled_modules(const TorchFile& file, pickle::Ref network) {
  std::vector<PickledModule> out;
  collect_modules(file, network, "", out);
  return out;
}

ModuleSettings compare_modules(Module& built, const std::vector<PickledModule>& modules, const StateDict& state,
                               const std::string& file) {
  ModuleSettings settings;
  if (modules.empty()) return settings;
  std::map<std::string, Module*> ours;
  built.walk([&](const std::string& name, Module& module) { ours[name] = &module; });
  std::set<std::string> seen, ignored;
  const auto has_tensors = [&](const std::string& name) {
    return std::any_of(state.begin(), state.end(), [&](const auto& item) { return item.first.starts_with(name + "."); });
  };
  for (const PickledModule& theirs : modules) {
    if (theirs.name.empty()) continue;
    const std::size_t dot = theirs.name.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : theirs.name.substr(0, dot);
    const std::string where = file + ": " + theirs.name + ": ";
    const auto found = ours.find(theirs.name);
    if (found == ours.end()) {
      if (ignored.contains(parent)) {
        ignored.insert(theirs.name);
        continue;
      }
      const auto owner = ours.find(parent);
      const std::string built_act =
          last_part(theirs.name) == "act" && owner != ours.end() ? setting_of(*owner->second, "act") : "";
      if (!built_act.empty()) {
        const std::string text = activation_of(theirs);
        if (parse_activation(text, file + ": " + theirs.name) != parse_activation(built_act, file))
          settings[parent]["act"] = text;
        continue;
      }
      const std::string kind = last_part(theirs.type);
      const bool idle = kind == "Identity" || kind.starts_with("Dropout");  // nothing outside training
      const bool pooling = kind == "AdaptiveAvgPool2d" && owner != ours.end() && classes_of(*owner->second).empty();
      FROST_CHECK((idle || pooling) && !has_tensors(theirs.name), where, "a ", shortened(theirs.type),
                  " that the model's YAML does not ask for");
      ignored.insert(theirs.name);
      continue;
    }
    Module& module = *found->second;
    seen.insert(theirs.name);
    const std::vector<std::string> classes = classes_of(module);
    if (dynamic_cast<Activate*>(&module)) {
      const std::string text = activation_of(theirs), own = setting_of(module, "act");
      if (parse_activation(text, file + ": " + theirs.name) != parse_activation(own, file))
        settings[theirs.name]["act"] = text;
      continue;
    }
    FROST_CHECK(classes.empty() || std::ranges::find(classes, last_part(theirs.type)) != classes.end(), where, "a ",
                shortened(theirs.type), ", the model's YAML asks for ", classes.front());
    for (const auto& [attribute, value] : theirs.attributes) {
      if (attribute == "f") continue;
      const std::string expected = setting_of(module, attribute);
      if (expected.empty() || expected == value) continue;
      if (attribute == "padding_mode" && setting_of(module, "padding") == "0" && theirs.attributes.contains("padding") &&
          theirs.attributes.at("padding") == "0")
        continue;  // without padding all modes are the same
      if (attribute == "align_corners" && value != "True" && expected != "True") continue;  // null and False are one
      const bool nothing = value == "null" && attribute != "size" && attribute != "scale_factor";
      FROST_CHECK(honoured(module, attribute) && !nothing, where, attribute, " ", value, ", the model's YAML gives ",
                  expected);
      settings[theirs.name][attribute] = value;
    }
  }
  for (const auto& [name, module] : ours)
    FROST_CHECK(name.empty() || seen.contains(name) || dynamic_cast<Identity*>(module), file, ": ", name,
                ": the checkpoint's modules lack it",
                dynamic_cast<BatchNorm2d*>(module) ? "; convolutions fused with their norms are not read" : "");
  check_tensors(built, ours, state, file);
  return settings;
}

void check_inputs(const ModelSpec& spec, const std::vector<PickledModule>& modules, const std::string& file) {
  std::map<std::string, std::string> said;
  for (const LayerSpec& layer : spec.layers)
    said[fmt::format("model.{}", layer.index)] =
        layer.from.size() == 1 ? std::to_string(layer.from[0]) : fmt::format("[{}]", fmt::join(layer.from, ", "));
  for (const PickledModule& module : modules) {
    const auto from = module.attributes.find("f");
    const auto row = said.find(module.name);
    FROST_CHECK(from == module.attributes.end() || row == said.end() || from->second == row->second, file, ": ", module.name,
                ": reads layers ", from->second, ", the model's YAML says ", row->second);
  }
}

ModelSpec with_settings(const ModelSpec& spec, const ModuleSettings& settings) {
  std::string text = spec.text + "\nmodules:\n";
  for (const auto& [name, attributes] : settings) {
    text += "  " + name + ":\n";
    for (const auto& [attribute, value] : attributes)
      text += fmt::format("    {}: {}\n", attribute, value.starts_with('[') ? value : "\"" + value + "\"");
  }
  return parse_model_yaml(text, spec.name);
}

}  // namespace frost
