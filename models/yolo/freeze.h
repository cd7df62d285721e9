#pragma once
#include <string>
#include <vector>

#include "engine/nn/module.h"

namespace frost::yolo {

/// The layers that YOLOv5's --freeze names: one number N means layers 0 .. N-1, several numbers mean exactly these
/// (spec/freeze_prune.md 1.1). Throws Error for a layer the model does not have.
std::vector<int> frozen_layers(const std::vector<int>& freeze, int layer_count);

/// Every parameter trains, except those of the given layers. Returns the frozen names, in parameter order.
std::vector<std::string> freeze_layers(Module& model, const std::vector<int>& layers);

}  // namespace frost::yolo
