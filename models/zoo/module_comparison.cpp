#include "models/zoo/module_comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "engine/checkpoint/budget.h"
#include "models/graph/activation_text.h"
#include "models/graph/detect.h"
#include "models/graph/model_yaml.h"
#include "models/graph/registry.h"

namespace frost {
namespace {

std::string last_part(const std::string& dotted) { return dotted.substr(dotted.rfind('.') + 1); }

/// The last part of a pickled module's class, by the name that built modules have for it.
std::string class_of(const std::string& type) {
  const std::string name = last_part(type);
  if (name == "DWConv") return "Conv";
  if (name == "SyncBatchNorm") return "BatchNorm2d";
  return name == "ModuleList" ? "Sequential" : name;
}

/// "nn.LeakyReLU(0.1)" of a pickled activation.
std::string activation_text(const PickledModule& act) {
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
  const std::size_t kMost = attribute == "f" ? 64 : 4;
  const auto numbers = d[value].items.size() <= kMost ? d.numbers(value) : std::nullopt;
  if (!numbers || numbers->empty()) return shortened(file.describe(value));
  std::vector<std::string> texts;
  for (const double number : *numbers)  // norms hold theirs in f32
    texts.push_back(attribute == "eps" || attribute == "momentum" ? fmt::format("{}", static_cast<float>(number))
                                                                  : fmt::format("{}", number));
  const bool same = attribute != "f" && std::ranges::all_of(texts, [&](const auto& t) { return t == texts.front(); });
  return same || texts.size() == 1 ? texts.front() : fmt::format("[{}]", fmt::join(texts, ", "));
}

/// The package counts as much as the name: a Conv of another project may compute anything.
bool known_class(const std::string& type, bool act) {
  static const std::set<std::string> names{"Conv",           "DWConv",
                                           "Focus",          "Bottleneck",
                                           "BottleneckCSP",  "C3",
                                           "C3Ghost",        "SPP",
                                           "SPPF",           "Concat",
                                           "Detect",         "Segment",
                                           "GhostConv",      "GhostBottleneck",
                                           "Classify",       "Model",
                                           "DetectionModel", "ClassificationModel"};
  if (type.starts_with("torch.nn.modules.") || type.starts_with("torchvision.")) return true;
  if (act && type.starts_with("utils.activations.")) return true;
  return (type.starts_with("models.") || type.starts_with("__main__.")) && (act || names.contains(last_part(type)));
}

void collect_modules(const TorchFile& file, pickle::Ref module, const std::string& name, std::vector<PickledModule>& out) {
  const pickle::Document& d = file.document();
  PickledModule kept{name, std::string(d.symbol(module)), {}};
  FROST_CHECK(known_class(kept.type, name.ends_with(".act")), file.path().string(), ": ", name, name.empty() ? "" : ": ",
              "unknown module ", shortened(kept.type), module_hint(last_part(kept.type)));
  std::vector<std::string> attributes = attributes_of(class_of(kept.type));
  if (kept.type.ends_with(".LeakyReLU")) attributes.push_back("negative_slope");
  if (name.starts_with("model.") && name.rfind('.') == 5) attributes.push_back("f");
  for (const std::string& attribute : attributes)
    if (const pickle::Ref value = d.get(module, attribute); value != pickle::kNothing)
      kept.attributes[attribute] = value_text(file, value, attribute);
  out.push_back(std::move(kept));
  for (const auto& [key, child] : d.entries(d.get(module, "_modules")))
    if (d.is(child, pickle::Kind::object))
      collect_modules(file, child, name.empty() ? d[key].text : name + "." + d[key].text, out);
}

/// Tensors that a module has beyond those of its class, such as the bias of a convolution fused with its norm.
void check_tensors(Module& built, const std::map<std::string, Module*>& ours, const StateDict& state,
                   const std::string& file, const std::string& whose) {
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
         " has no place in the network that ", whose, " asks for");
  }
}

}  // namespace

std::vector<PickledModule> pickled_modules(const TorchFile& file, pickle::Ref network) {
  std::vector<PickledModule> out;
  collect_modules(file, network, "", out);
  return out;
}

ModuleSettings compare_modules(Module& built, const std::vector<PickledModule>& modules, const StateDict& state,
                               const std::string& file, const std::string& whose) {
  ModuleSettings settings;
  if (modules.empty()) return settings;
  std::map<std::string, Module*> ours;
  std::map<std::string, std::size_t> place;  // of ours, in the tree's order
  built.walk([&](const std::string& name, Module& module) {
    place[name] = ours.size();
    ours[name] = &module;
  });
  std::vector<std::string> tensors;
  for (const auto& [name, tensor] : state) tensors.push_back(name);
  std::ranges::sort(tensors);
  const auto has_tensors = [&](const std::string& name) {
    const auto first = std::ranges::lower_bound(tensors, name + ".");
    return first != tensors.end() && first->starts_with(name + ".");
  };
  std::set<std::string> seen, ignored;
  std::map<std::string, std::pair<std::string, std::size_t>> chains;  // nn.Sequential runs its children in their order
  const auto compare_activation = [&](const PickledModule& theirs, const std::string& own, const std::string& path) {
    const std::string text = activation_text(theirs);
    if (parse_activation(text, file + ": " + theirs.name) != parse_activation(own, file)) settings[path]["act"] = text;
  };
  for (const PickledModule& theirs : modules) {
    const std::size_t dot = theirs.name.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : theirs.name.substr(0, dot);
    const std::string where = file + ": " + theirs.name + (theirs.name.empty() ? "" : ": ");
    const auto found = ours.find(theirs.name);
    if (found == ours.end()) {
      if (ignored.contains(parent)) {
        ignored.insert(theirs.name);
        continue;
      }
      const auto owner = ours.find(parent);
      const std::string act =
          last_part(theirs.name) == "act" && owner != ours.end() ? setting_of(*owner->second, "act") : "";
      if (!act.empty()) {
        compare_activation(theirs, act, parent);
        continue;
      }
      const std::string kind = last_part(theirs.type);
      const bool idle = kind == "Identity" || kind.starts_with("Dropout");  // nothing outside training
      FROST_CHECK(idle && !has_tensors(theirs.name), where, "a ", shortened(theirs.type), " that ", whose,
                  " does not ask for");
      ignored.insert(theirs.name);
      continue;
    }
    Module& module = *found->second;
    seen.insert(theirs.name);
    if (theirs.type.ends_with(".Sequential")) chains.emplace(theirs.name, std::pair(std::string(), std::size_t{0}));
    if (const auto chain = chains.find(parent); chain != chains.end() && !theirs.name.empty()) {
      auto& [before, last] = chain->second;
      FROST_CHECK(place.at(theirs.name) > last, where, "runs after ", before, ", but ", whose, " asks for it before that");
      chain->second = {theirs.name, place.at(theirs.name)};
    }
    if (dynamic_cast<Activate*>(&module)) {
      compare_activation(theirs, setting_of(module, "act"), theirs.name);
      continue;
    }
    const std::string expected_class = module.torch_class();
    FROST_CHECK(expected_class.empty() || expected_class == class_of(theirs.type), where, "a ", shortened(theirs.type), ", ",
                whose, " asks for ", expected_class);
    for (const auto& [attribute, stored] : theirs.attributes) {
      const std::string expected = setting_of(module, attribute);
      std::string value = stored;
      if (expected == "True" || expected == "False") {  // as Python reads them
        if (value == "0" || (value == "null" && attribute == "align_corners")) value = "False";
        if (value == "1") value = "True";
      }
      if (expected.empty() || expected == value) continue;
      if (attribute == "padding_mode" && setting_of(module, "padding") == "0" && theirs.attributes.contains("padding") &&
          theirs.attributes.at("padding") == "0")
        continue;  // without padding all modes are the same
      if (attribute == "align_corners" && value != "True" && expected == "null") continue;
      const bool nothing = value == "null" && attribute != "size" && attribute != "scale_factor";
      FROST_CHECK(can_set(module, attribute) && !nothing, where, attribute, " ", value, ", ", whose, " gives ", expected);
      settings[theirs.name][attribute] = value;
    }
  }
  for (const auto& [name, module] : ours)
    FROST_CHECK(seen.contains(name) || dynamic_cast<Identity*>(module), file, ": ", name,
                ": the checkpoint's modules lack it",
                dynamic_cast<BatchNorm2d*>(module) ? "; convolutions fused with their norms are not read" : "");
  check_tensors(built, ours, state, file, whose);
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
