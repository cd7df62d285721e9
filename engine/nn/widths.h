#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/nn/module.h"

namespace frost {

/// How wide a model's convolutions and norms are: the PyTorch shapes of its parameters by name. A model with pruned filters
/// has its YAML's graph, but other widths: those of its checkpoint's tensors.
using Widths = std::map<std::string, std::vector<std::int64_t>>;

Widths widths_of(Module& model);

/// Gives each convolution and batch norm the width that `widths` has for its weight; what is not in it, or has another
/// kernel, stays. Values are lost where something changes: load them afterwards. Whether the widths match each other is
/// checked when the model runs.
void fit_widths(Module& model, const Widths& widths);

}  // namespace frost
