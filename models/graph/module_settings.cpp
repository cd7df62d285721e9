#include "models/graph/module_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "models/graph/detection_model.h"

namespace frost {
namespace {

std::string pair_text(int h, int w) { return h == w ? std::to_string(h) : fmt::format("[{}, {}]", h, w); }

Activation* activation_of(Module& module) {
  if (auto* conv = dynamic_cast<ConvNormAct*>(&module)) return &conv->activation;
  if (auto* csp = dynamic_cast<BottleneckCSP*>(&module)) return &csp->activation;
  if (auto* alone = dynamic_cast<Activate*>(&module)) return &alone->kind;
  return nullptr;
}

/// One or two whole numbers, "2" or "[2, 1]", each `least` to 4096.
Pair read_pair(const std::string& text, int least, const std::string& where) {
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
  FROST_CHECK(fine, where, " is ", text.substr(0, 60), ", expected whole numbers of ", least, " to 4096");
  return {static_cast<int>(values.front()), static_cast<int>(values.back())};
}

float read_real(const std::string& text, const std::string& where) {
  char* end = nullptr;
  const float value = std::strtof(text.c_str(), &end);
  FROST_CHECK(!text.empty() && *end == '\0' && value >= 0 && value <= 1, where, " is ", text.substr(0, 60),
              ", expected a number from 0 to 1");
  return value;
}

bool read_flag(const std::string& text, const std::string& where) {
  FROST_CHECK(text == "True" || text == "False", where, " is ", text.substr(0, 60), ", expected True or False");
  return text == "True";
}

int read_square(const std::string& text, int least, const std::string& where) {
  const Pair pair = read_pair(text, least, where);
  FROST_CHECK(pair.h == pair.w, where, " is ", text, ", but pools are square here");
  return pair.h;
}

void set(Module& module, const std::string& attribute, const std::string& value, const std::string& where) {
  if (auto* conv = dynamic_cast<Conv2d*>(&module)) {
    ConvGeometry& g = conv->geometry;
    const auto take = [&](int& h, int& w, int least) {
      const Pair pair = read_pair(value, least, where);
      h = pair.h, w = pair.w;
    };
    if (attribute == "stride") return take(g.stride_h, g.stride_w, 1);
    if (attribute == "padding" && (value == "valid" || value == "same")) {  // PyTorch's words, of odd kernels here
      const int h = g.dilation_h * (g.kernel_h - 1), w = g.dilation_w * (g.kernel_w - 1);
      FROST_CHECK(value == "valid" || (h % 2 == 0 && w % 2 == 0), where, " is same: frost knows it for odd kernels");
      g.pad_h = value == "same" ? h / 2 : 0, g.pad_w = value == "same" ? w / 2 : 0;
      return;
    }
    if (attribute == "padding") return take(g.pad_h, g.pad_w, 0);
    if (attribute == "dilation") return take(g.dilation_h, g.dilation_w, 1);
  } else if (auto* bn = dynamic_cast<BatchNorm2d*>(&module)) {
    if (attribute == "eps") return void(bn->eps = read_real(value, where));
    if (attribute == "momentum") return void(bn->momentum = read_real(value, where));
  } else if (auto* pool = dynamic_cast<MaxPool2d*>(&module)) {
    if (attribute == "kernel_size") return void(pool->geometry.kernel = read_square(value, 1, where));
    if (attribute == "stride") return void(pool->geometry.stride = read_square(value, 1, where));
    if (attribute == "padding") return void(pool->geometry.pad = read_square(value, 0, where));
    if (attribute == "ceil_mode") return void(pool->geometry.ceil_mode = read_flag(value, where));
  } else if (auto* bottleneck = dynamic_cast<Bottleneck*>(&module)) {
    if (attribute == "add") return void(bottleneck->add = read_flag(value, where));
  } else if (auto* up = dynamic_cast<Upsample*>(&module)) {
    if (attribute == "scale_factor" && value != "null") {
      const Pair by = read_pair(value, 1, where);
      up->by = {by.h, by.w};
    } else if (attribute == "size" && value != "null") {
      const Pair to = read_pair(value, 1, where);
      up->to = Upsample::To{to.h, to.w};
    } else if (attribute == "size") {
      up->to.reset();
    } else if (attribute == "mode") {
      FROST_CHECK(value == "nearest" || value == "bilinear", where, " '", value.substr(0, 60),
                  "' is not nearest or bilinear");
      const bool corners = up->mode == ResizeMode::bilinear_corners;
      if (!corners || value == "nearest") up->mode = value == "nearest" ? ResizeMode::nearest : ResizeMode::bilinear;
    } else if (attribute == "align_corners") {  // stands before the mode: settings are in alphabetical order
      const bool corners = value != "null" && read_flag(value, where);
      if (corners || up->mode == ResizeMode::bilinear_corners)
        up->mode = corners ? ResizeMode::bilinear_corners : ResizeMode::bilinear;
    } else {
      FROST_CHECK(attribute == "scale_factor" && value == "null", where, " is unknown");
    }
    return;
  } else if (Activation* activation = activation_of(module); activation && attribute == "act") {
    *activation = parse_activation(value, where);
    return;
  }
  fail(where, " is unknown");
}

}  // namespace

std::string activation_text(const Activation& a) {
  switch (a.kind) {
    case ActivationKind::identity:
      return "nn.Identity()";
    case ActivationKind::silu:
      return "nn.SiLU()";
    case ActivationKind::relu:
      return "nn.ReLU()";
    case ActivationKind::leaky_relu:
      return fmt::format("nn.LeakyReLU({})", a.slope);
    case ActivationKind::hardswish:
      return "nn.Hardswish()";
    case ActivationKind::sigmoid:
      return "nn.Sigmoid()";
    case ActivationKind::mish:
      return "nn.Mish()";
  }
  return "";
}

std::string setting_of(Module& module, const std::string& attribute) {
  if (const auto* conv = dynamic_cast<Conv2d*>(&module)) {
    const ConvGeometry& g = conv->geometry;
    if (attribute == "kernel_size") return pair_text(g.kernel_h, g.kernel_w);
    if (attribute == "stride") return pair_text(g.stride_h, g.stride_w);
    if (attribute == "padding") return pair_text(g.pad_h, g.pad_w);
    if (attribute == "dilation") return pair_text(g.dilation_h, g.dilation_w);
    if (attribute == "groups") return std::to_string(g.groups);
    if (attribute == "padding_mode") return "zeros";
    if (attribute == "transposed") return "False";
  } else if (const auto* bn = dynamic_cast<BatchNorm2d*>(&module)) {
    if (attribute == "eps") return fmt::format("{}", bn->eps);
    if (attribute == "momentum") return fmt::format("{}", bn->momentum);
  } else if (const auto* pool = dynamic_cast<MaxPool2d*>(&module)) {
    if (attribute == "kernel_size") return std::to_string(pool->geometry.kernel);
    if (attribute == "stride") return std::to_string(pool->geometry.stride);
    if (attribute == "padding") return std::to_string(pool->geometry.pad);
    if (attribute == "dilation") return "1";
    if (attribute == "return_indices") return "False";
    if (attribute == "ceil_mode") return pool->geometry.ceil_mode ? "True" : "False";
  } else if (const auto* up = dynamic_cast<Upsample*>(&module)) {
    if (attribute == "scale_factor") return up->to ? "null" : pair_text(up->by.rows, up->by.columns);
    if (attribute == "size") return up->to ? pair_text(up->to->height, up->to->width) : "null";
    if (attribute == "mode") return up->mode == ResizeMode::nearest ? "nearest" : "bilinear";
    if (attribute == "align_corners")
      return up->mode == ResizeMode::bilinear_corners ? "True" : up->mode == ResizeMode::nearest ? "null" : "False";
  } else if (const auto* mean = dynamic_cast<AvgPool2d*>(&module)) {
    if (attribute == "kernel_size" || attribute == "stride") return std::to_string(mean->kernel);
    if (attribute == "padding") return "0";
    if (attribute == "ceil_mode") return "False";
    if (attribute == "divisor_override") return "null";
  } else if (const auto* pad = dynamic_cast<ZeroPad2d*>(&module)) {
    const bool even = pad->left == pad->right && pad->left == pad->top && pad->left == pad->bottom;
    if (attribute == "padding" && even) return std::to_string(pad->left);
    if (attribute == "padding") return fmt::format("[{}, {}, {}, {}]", pad->left, pad->right, pad->top, pad->bottom);
  } else if (const auto* bottleneck = dynamic_cast<Bottleneck*>(&module)) {
    if (attribute == "add") return bottleneck->add ? "True" : "False";
  } else if (dynamic_cast<Concat*>(&module)) {
    if (attribute == "d") return "1";
  } else if (const Activation* activation = activation_of(module); activation && attribute == "act") {
    return activation_text(*activation);
  }
  return "";
}

void apply_settings(Module& model, const ModuleSettings& settings, const std::string& where, int layers) {
  if (settings.empty()) return;
  std::map<std::string, Module*> modules;
  model.walk([&](const std::string& name, Module& module) { modules[name] = &module; });
  for (const auto& [name, attributes] : settings) {
    const std::string whose = where + ": " + name.substr(0, 120);
    const auto found = modules.find(name);
    if (found == modules.end()) {
      constexpr std::string_view kFront = "model.";
      int layer = -1;
      if (name.starts_with(kFront)) std::from_chars(name.data() + kFront.size(), name.data() + name.size(), layer);
      FROST_CHECK(layer >= layers, whose, ": 'modules' names a module that the graph does not have");
      continue;
    }
    for (const auto& [attribute, value] : attributes) set(*found->second, attribute, value, whose + ": " + attribute);
  }
}

}  // namespace frost
