#include "models/zoo/module_comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "engine/checkpoint/budget.h"
#include "models/graph/blocks.h"

namespace frost {
namespace {

std::string last_part(const std::string& dotted) { return dotted.substr(dotted.rfind('.') + 1); }

/// The class names under which PyTorch knows a module; empty: any.
std::vector<std::string> classes_of(Module& module) {
  const auto is = [&]<class M>(const M*) { return dynamic_cast<M*>(&module) != nullptr; };
  if (is(static_cast<ConvNormAct*>(nullptr))) return {"Conv", "DWConv"};
  if (is(static_cast<Conv2d*>(nullptr))) return {"Conv2d"};
  if (is(static_cast<BatchNorm2d*>(nullptr))) return {"BatchNorm2d"};
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
  if (dynamic_cast<BatchNorm2d*>(&module)) return attribute == "eps";
  if (dynamic_cast<MaxPool2d*>(&module))
    return attribute == "kernel_size" || attribute == "stride" || attribute == "padding";
  if (dynamic_cast<Upsample*>(&module)) return attribute == "scale_factor" || attribute == "mode";
  return false;
}

/// "nn.LeakyReLU(0.1)" of a pickled activation.
std::string activation_of(const PickledModule& act) {
  const std::string kind = last_part(act.type);
  if (kind != "LeakyReLU") return "nn." + kind + "()";
  const auto slope = act.attributes.find("negative_slope");
  return "nn.LeakyReLU(" + (slope == act.attributes.end() ? "0.01" : slope->second) + ")";
}

}  // namespace

ModuleSettings compare_modules(DetectionModel& built, const YoloCheckpoint& checkpoint, const std::string& file) {
  ModuleSettings settings;
  if (checkpoint.modules.empty()) return settings;
  std::map<std::string, Module*> ours;
  built.walk([&](const std::string& name, Module& module) { ours[name] = &module; });
  std::set<std::string> seen, ignored;
  const auto has_tensors = [&](const std::string& name) {
    return std::any_of(checkpoint.state.begin(), checkpoint.state.end(),
                       [&](const auto& item) { return item.first.starts_with(name + "."); });
  };
  for (const PickledModule& theirs : checkpoint.modules) {
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
      FROST_CHECK(theirs.type.starts_with("torch.nn.") && !has_tensors(theirs.name), where, "a ", shortened(theirs.type),
                  " that the model's YAML does not ask for");
      ignored.insert(theirs.name);  // without tensors, of PyTorch's own: YOLOv5's code never calls it
      continue;
    }
    Module& module = *found->second;
    seen.insert(theirs.name);
    const std::vector<std::string> classes = classes_of(module);
    FROST_CHECK(classes.empty() || std::ranges::find(classes, last_part(theirs.type)) != classes.end(), where, "a ",
                shortened(theirs.type), ", the model's YAML asks for ", classes.front());
    for (const auto& [attribute, value] : theirs.attributes) {
      if (attribute == "f") continue;
      const std::string expected = setting_of(module, attribute);
      if (expected.empty() || expected == value) continue;
      if (attribute == "align_corners" && value != "True" && expected != "True") continue;  // null and False are one
      FROST_CHECK(honoured(module, attribute) && value != "null", where, attribute, " ", value, ", the model's YAML gives ",
                  expected);
      settings[theirs.name][attribute] = value;
    }
  }
  for (const auto& [name, module] : ours)
    FROST_CHECK(name.empty() || seen.contains(name) || dynamic_cast<Identity*>(module), file, ": ", name,
                ": the checkpoint's modules lack it");
  return settings;
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
