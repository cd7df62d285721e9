#include "models/graph/module_settings.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "models/graph/blocks.h"
#include "models/graph/model_spec.h"

namespace frost {
namespace {

std::string pair_text(int h, int w) { return h == w ? std::to_string(h) : fmt::format("[{}, {}]", h, w); }

Activation* activation_of(Module& module) {
  if (auto* conv = dynamic_cast<ConvNormAct*>(&module)) return &conv->activation;
  if (auto* csp = dynamic_cast<BottleneckCSP*>(&module)) return &csp->activation;
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
    if (attribute == "padding") return take(g.pad_h, g.pad_w, 0);
    if (attribute == "dilation") return take(g.dilation_h, g.dilation_w, 1);
  } else if (auto* bn = dynamic_cast<BatchNorm2d*>(&module)) {
    if (attribute == "eps") {
      char* end = nullptr;
      const float eps = std::strtof(value.c_str(), &end);
      FROST_CHECK(!value.empty() && *end == '\0' && std::isfinite(eps) && eps >= 0, where, " is ", value.substr(0, 60));
      bn->eps = eps;
      return;
    }
  } else if (auto* pool = dynamic_cast<MaxPool2d*>(&module)) {
    if (attribute == "kernel_size") return void(pool->geometry.kernel = read_square(value, 1, where));
    if (attribute == "stride") return void(pool->geometry.stride = read_square(value, 1, where));
    if (attribute == "padding") return void(pool->geometry.pad = read_square(value, 0, where));
  } else if (auto* up = dynamic_cast<Upsample*>(&module)) {
    if (attribute == "scale_factor") {
      const Pair by = read_pair(value, 1, where);
      up->by = {by.h, by.w};
      return;
    }
    if (attribute == "mode") {
      FROST_CHECK(value == "nearest" || value == "bilinear", where, " '", value.substr(0, 60),
                  "' is not nearest or bilinear");
      up->mode = value == "nearest" ? ResizeMode::nearest : ResizeMode::bilinear;
      return;
    }
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
  } else if (const auto* bn = dynamic_cast<BatchNorm2d*>(&module)) {
    if (attribute == "eps") return fmt::format("{}", bn->eps);
  } else if (const auto* pool = dynamic_cast<MaxPool2d*>(&module)) {
    if (attribute == "kernel_size") return std::to_string(pool->geometry.kernel);
    if (attribute == "stride") return std::to_string(pool->geometry.stride);
    if (attribute == "padding") return std::to_string(pool->geometry.pad);
    if (attribute == "dilation") return "1";
    if (attribute == "ceil_mode") return pool->geometry.ceil_mode ? "True" : "False";
  } else if (const auto* up = dynamic_cast<Upsample*>(&module)) {
    if (attribute == "scale_factor") return up->to ? "null" : pair_text(up->by.rows, up->by.columns);
    if (attribute == "size") return up->to ? pair_text(up->to->height, up->to->width) : "null";
    if (attribute == "mode") return up->mode == ResizeMode::nearest ? "nearest" : "bilinear";
    if (attribute == "align_corners")
      return up->mode == ResizeMode::bilinear_corners ? "True" : up->mode == ResizeMode::nearest ? "null" : "False";
  } else if (const Activation* activation = activation_of(module); activation && attribute == "act") {
    return activation_text(*activation);
  }
  return "";
}

void apply_settings(Module& model, const ModuleSettings& settings, const std::string& where) {
  std::size_t found = 0;
  model.walk([&](const std::string& name, Module& module) {
    const auto own = settings.find(name);
    if (own == settings.end()) return;
    ++found;
    for (const auto& [attribute, value] : own->second) set(module, attribute, value, where + ": " + name + ": " + attribute);
  });
  FROST_CHECK(found == settings.size(), where, ": 'modules' names a module that the graph does not have");
}

}  // namespace frost
