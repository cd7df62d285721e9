#include "models/graph/module_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "models/graph/activation_text.h"
#include "models/graph/blocks.h"

namespace frost {
namespace {

std::string pair_text(int h, int w) { return h == w ? std::to_string(h) : fmt::format("[{}, {}]", h, w); }

/// A value that is to be set, and whose it is, for messages.
struct Said {
  const std::string &value, &where;
};

/// One or two whole numbers, "2" or "[2, 1]", each `least` to 4096.
Pair read_pair(const Said& said, int least) {
  const std::string& text = said.value;
  std::vector<long> values;
  const bool list = text.starts_with('[') && text.ends_with(']');
  const std::string inner = list ? text.substr(1, text.size() - 2) : text;
  const char* at = inner.c_str();
  for (char* end = nullptr; *at != '\0' && values.size() < 3; at = end) {
    values.push_back(std::strtol(at, &end, 10));
    if (end == at) break;
    while (*end == ',' || *end == ' ') ++end;
  }
  bool fine = *at == '\0' && (values.size() == 1 || (list && values.size() == 2));
  for (const long value : values) fine = fine && value >= least && value <= 4096;
  FROST_CHECK(fine, said.where, " is ", text.substr(0, 60), ", expected whole numbers of ", least, " to 4096");
  return {static_cast<int>(values.front()), static_cast<int>(values.back())};
}

float read_real(const Said& said) {
  char* end = nullptr;
  const float value = std::strtof(said.value.c_str(), &end);
  FROST_CHECK(!said.value.empty() && *end == '\0' && value >= 0 && value <= 1, said.where, " is ", said.value.substr(0, 60),
              ", expected a number from 0 to 1");
  return value;
}

bool read_flag(const Said& said) {
  FROST_CHECK(said.value == "True" || said.value == "False", said.where, " is ", said.value.substr(0, 60),
              ", expected True or False");
  return said.value == "True";
}

int read_square(const Said& said, int least) {
  const Pair pair = read_pair(said, least);
  FROST_CHECK(pair.h == pair.w, said.where, " is ", said.value, ", but pools are square here");
  return pair.h;
}

void write_padding(Conv2d& conv, const Said& said) {
  ConvGeometry& g = conv.geometry;
  Pair pad = 0;  // "valid"
  if (said.value == "same") {
    pad = {g.dilation_h * (g.kernel_h - 1), g.dilation_w * (g.kernel_w - 1)};
    FROST_CHECK(pad.h % 2 == 0 && pad.w % 2 == 0, said.where, " is same: frost knows it for odd kernels");
    pad = {pad.h / 2, pad.w / 2};
  } else if (said.value != "valid") {
    pad = read_pair(said, 0);
  }
  g.pad_h = pad.h, g.pad_w = pad.w;
}

void write_mode(Upsample& up, const Said& said) {
  FROST_CHECK(said.value == "nearest" || said.value == "bilinear", said.where, " '", said.value.substr(0, 60),
              "' is not nearest or bilinear");
  if (said.value == "nearest") up.mode = ResizeMode::nearest;
  if (said.value == "bilinear" && up.mode == ResizeMode::nearest) up.mode = ResizeMode::bilinear;
}

/// Comes before the mode: settings are in alphabetical order.
void write_corners(Upsample& up, const Said& said) {
  if (said.value != "null" && read_flag(said))
    up.mode = ResizeMode::bilinear_corners;
  else if (up.mode == ResizeMode::bilinear_corners)
    up.mode = ResizeMode::bilinear;
}

std::string flag_text(bool value) { return value ? "True" : "False"; }

/// One attribute of the modules of a class.
struct Setting {
  std::string attribute;
  std::function<std::string(Module&)> read;
  std::function<void(Module&, const Said&)> write;  // none: it is compared, and never changed
};

template <class M>
Setting setting(const char* attribute, std::string (*read)(M&), void (*write)(M&, const Said&) = nullptr) {
  Setting setting{attribute,
                  [read](Module& module) {
                    M* own = dynamic_cast<M*>(&module);  // torchvision has a Bottleneck, too
                    return own ? read(*own) : std::string();
                  },
                  {}};
  if (write) setting.write = [write](Module& module, const Said& said) { write(dynamic_cast<M&>(module), said); };
  return setting;
}

template <class M, Activation M::*act>
Setting activation_setting() {
  return setting<M>(
      "act", [](M& m) { return activation_text(m.*act); },
      [](M& m, const Said& said) { m.*act = parse_activation(said.value, said.where); });
}

/// The attributes of modules, by class.
const std::vector<Setting>& settings_of(const std::string& torch_class) {
  static const std::map<std::string, std::vector<Setting>, std::less<>> table = {
      {"Activation", {activation_setting<Activate, &Activate::kind>()}},
      {"AdaptiveAvgPool2d",
       {setting<AdaptiveAvgPool2d>(
           "output_size",
           [](AdaptiveAvgPool2d& p) { return pair_text(static_cast<int>(p.rows), static_cast<int>(p.columns)); })}},
      {"AvgPool2d",
       {setting<AvgPool2d>("ceil_mode", [](AvgPool2d&) { return flag_text(false); }),
        setting<AvgPool2d>("divisor_override", [](AvgPool2d&) { return std::string("null"); }),
        setting<AvgPool2d>("kernel_size", [](AvgPool2d& p) { return std::to_string(p.kernel); }),
        setting<AvgPool2d>("padding", [](AvgPool2d&) { return std::string("0"); }),
        setting<AvgPool2d>("stride", [](AvgPool2d& p) { return std::to_string(p.kernel); })}},
      {"BatchNorm2d",
       {setting<BatchNorm2d>(
            "eps", [](BatchNorm2d& bn) { return fmt::format("{}", bn.eps); },
            [](BatchNorm2d& bn, const Said& said) { bn.eps = read_real(said); }),
        setting<BatchNorm2d>(
            "momentum", [](BatchNorm2d& bn) { return fmt::format("{}", bn.momentum); },
            [](BatchNorm2d& bn, const Said& said) { bn.momentum = read_real(said); }),
        setting<BatchNorm2d>("track_running_stats", [](BatchNorm2d&) { return flag_text(true); })}},
      {"Bottleneck",
       {setting<Bottleneck>(
           "add", [](Bottleneck& b) { return flag_text(b.add); },
           [](Bottleneck& b, const Said& said) { b.add = read_flag(said); })}},
      {"BottleneckCSP", {activation_setting<BottleneckCSP, &BottleneckCSP::activation>()}},
      {"Concat", {setting<Concat>("d", [](Concat&) { return std::string("1"); })}},
      {"Conv", {activation_setting<ConvNormAct, &ConvNormAct::activation>()}},
      {"Conv2d",
       {setting<Conv2d>(
            "dilation", [](Conv2d& c) { return pair_text(c.geometry.dilation_h, c.geometry.dilation_w); },
            [](Conv2d& c, const Said& said) {
              const Pair pair = read_pair(said, 1);
              c.geometry.dilation_h = pair.h, c.geometry.dilation_w = pair.w;
            }),
        setting<Conv2d>("groups", [](Conv2d& c) { return std::to_string(c.geometry.groups); }),
        setting<Conv2d>("kernel_size", [](Conv2d& c) { return pair_text(c.geometry.kernel_h, c.geometry.kernel_w); }),
        setting<Conv2d>(
            "padding", [](Conv2d& c) { return pair_text(c.geometry.pad_h, c.geometry.pad_w); }, write_padding),
        setting<Conv2d>("padding_mode", [](Conv2d&) { return std::string("zeros"); }),
        setting<Conv2d>(
            "stride", [](Conv2d& c) { return pair_text(c.geometry.stride_h, c.geometry.stride_w); },
            [](Conv2d& c, const Said& said) {
              const Pair pair = read_pair(said, 1);
              c.geometry.stride_h = pair.h, c.geometry.stride_w = pair.w;
            }),
        setting<Conv2d>("transposed", [](Conv2d&) { return flag_text(false); })}},
      {"MaxPool2d",
       {setting<MaxPool2d>(
            "ceil_mode", [](MaxPool2d& p) { return flag_text(p.geometry.ceil_mode); },
            [](MaxPool2d& p, const Said& said) { p.geometry.ceil_mode = read_flag(said); }),
        setting<MaxPool2d>("dilation", [](MaxPool2d&) { return std::string("1"); }),
        setting<MaxPool2d>(
            "kernel_size", [](MaxPool2d& p) { return std::to_string(p.geometry.kernel); },
            [](MaxPool2d& p, const Said& said) { p.geometry.kernel = read_square(said, 1); }),
        setting<MaxPool2d>(
            "padding", [](MaxPool2d& p) { return std::to_string(p.geometry.pad); },
            [](MaxPool2d& p, const Said& said) { p.geometry.pad = read_square(said, 0); }),
        setting<MaxPool2d>("return_indices", [](MaxPool2d&) { return flag_text(false); }),
        setting<MaxPool2d>(
            "stride", [](MaxPool2d& p) { return std::to_string(p.geometry.stride); },
            [](MaxPool2d& p, const Said& said) { p.geometry.stride = read_square(said, 1); })}},
      {"Upsample",
       {setting<Upsample>(
            "align_corners",
            [](Upsample& up) {
              return up.mode == ResizeMode::nearest ? "null" : flag_text(up.mode == ResizeMode::bilinear_corners);
            },
            write_corners),
        setting<Upsample>(
            "mode", [](Upsample& up) { return std::string(up.mode == ResizeMode::nearest ? "nearest" : "bilinear"); },
            write_mode),
        setting<Upsample>(
            "scale_factor", [](Upsample& up) { return up.by.rows == 0 ? "null" : pair_text(up.by.rows, up.by.columns); },
            [](Upsample& up, const Said& said) {
              const Pair by = said.value == "null" ? Pair(0) : read_pair(said, 1);
              up.by = {by.h, by.w};
            }),
        setting<Upsample>(
            "size", [](Upsample& up) { return up.to ? pair_text(up.to->height, up.to->width) : "null"; },
            [](Upsample& up, const Said& said) {
              up.to.reset();
              if (said.value == "null") return;
              const Pair to = read_pair(said, 1);
              up.to = Upsample::To{to.h, to.w};
            })}},
      {"ZeroPad2d", {setting<ZeroPad2d>("padding", [](ZeroPad2d& p) {
         const bool even = p.left == p.right && p.left == p.top && p.left == p.bottom;
         return even ? std::to_string(p.left) : fmt::format("[{}, {}, {}, {}]", p.left, p.right, p.top, p.bottom);
       })}}};
  static const std::vector<Setting> none;
  const auto found = table.find(torch_class);
  return found == table.end() ? none : found->second;
}

const Setting* find_setting(Module& module, const std::string& attribute) {
  const std::vector<Setting>& all = settings_of(module.torch_class());
  const auto found = std::ranges::find(all, attribute, &Setting::attribute);
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

std::vector<std::string> attributes_of(const std::string& torch_class) {
  std::vector<std::string> names;
  for (const Setting& setting : settings_of(torch_class)) names.push_back(setting.attribute);
  return names;
}

std::string setting_of(Module& module, const std::string& attribute) {
  const Setting* setting = find_setting(module, attribute);
  return setting ? setting->read(module) : "";
}

bool can_set(Module& module, const std::string& attribute) {
  const Setting* setting = find_setting(module, attribute);
  return setting && setting->write;
}

void apply_settings(Module& model, const ModuleSettings& settings, const std::string& where) {
  if (settings.empty()) return;
  std::map<std::string, Module*> modules;
  model.walk([&](const std::string& name, Module& module) { modules[name] = &module; });
  for (const auto& [name, attributes] : settings) {
    const std::string whose = where + ": " + name.substr(0, 120);
    const auto found = modules.find(name);
    FROST_CHECK(found != modules.end(), whose, ": 'modules' names a module that the graph does not have");
    for (const auto& [attribute, value] : attributes) {
      const Setting* setting = find_setting(*found->second, attribute);
      FROST_CHECK(setting && setting->write, whose, ": ", attribute, " is unknown");
      setting->write(*found->second, {value, whose + ": " + attribute});
    }
    if (const auto* up = dynamic_cast<Upsample*>(found->second))
      FROST_CHECK(up->to.has_value() != (up->by.rows > 0), whose, ": expected a size or a scale_factor, got ",
                  up->to ? "both" : "neither");
  }
}

}  // namespace frost
