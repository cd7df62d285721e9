#pragma once
#include <string>

#include "kernels/activation.h"

/// Activations as YAMLs and checkpoints write them.
namespace frost {

/// "SiLU", "nn.SiLU()", "nn.LeakyReLU(0.1)", "nn.ReLU()", "nn.Hardswish()",
/// "nn.Mish()", "nn.Identity()". `inplace` makes no difference; other arguments are refused.
Activation parse_activation(const std::string& text, const std::string& where);

/// As a checkpoint writes an activation: "nn.LeakyReLU(0.1)".
std::string activation_text(const Activation& activation);

}  // namespace frost
