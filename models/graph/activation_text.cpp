#include "models/graph/activation_text.h"

#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>

#include "kernels/error.h"

namespace frost {

Activation parse_activation(const std::string& text, const std::string& where) {
  // "nn.LeakyReLU(0.1, inplace=True)": prefixes, a name, and arguments of which only the slope counts.
  std::string kind = text, arguments;
  for (const char* prefix : {"torch.", "nn."})
    if (kind.starts_with(prefix)) kind.erase(0, std::string(prefix).size());
  if (const auto open = kind.find('('); open != std::string::npos) {
    FROST_CHECK(kind.ends_with(')'), where, ": activation '", text.substr(0, 60), "' is not understood");
    arguments = kind.substr(open + 1, kind.size() - open - 2);
    kind.erase(open);
  }
  std::erase_if(arguments, [](unsigned char c) { return std::isspace(c); });
  static const std::map<std::string, ActivationKind> kinds{
      {"SiLU", ActivationKind::silu},           {"Mish", ActivationKind::mish},
      {"ReLU", ActivationKind::relu},           {"LeakyReLU", ActivationKind::leaky_relu},
      {"Hardswish", ActivationKind::hardswish}, {"Sigmoid", ActivationKind::sigmoid},
      {"Identity", ActivationKind::identity}};
  const auto known = kinds.find(kind);
  FROST_CHECK(known != kinds.end(), where, ": activation '", text.substr(0, 60),
              "' is not one of SiLU, ReLU, LeakyReLU, Hardswish, Mish, Sigmoid, Identity");
  Activation activation{known->second};
  const bool leaky = activation.kind == ActivationKind::leaky_relu;
  if (leaky) activation.slope = 0.01f;  // PyTorch's default
  std::stringstream list(arguments);
  bool first = true;
  for (std::string argument; std::getline(list, argument, ','); first = false) {
    const auto equals = argument.find('=');
    const std::string name = equals == std::string::npos ? "" : argument.substr(0, equals),
                      value = argument.substr(equals == std::string::npos ? 0 : equals + 1);
    if ((value == "True" || value == "False") && (name.empty() || name == "inplace")) continue;  // the same values
    char* end = nullptr;
    const float slope = std::strtof(value.c_str(), &end);
    FROST_CHECK(leaky && (name == "negative_slope" || (name.empty() && first)) && !value.empty() && *end == '\0', where,
                ": activation '", text.substr(0, 60), "': argument '", argument.substr(0, 60), "' is not understood");
    FROST_CHECK(std::isfinite(slope), where, ": activation '", text.substr(0, 60), "' has a slope that is not a number");
    activation.slope = slope;
  }
  return activation;
}

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
    case ActivationKind::relu6:
      return "nn.ReLU6()";
    case ActivationKind::hardsigmoid:
      return "nn.Hardsigmoid()";
  }
  return "";
}

}  // namespace frost
