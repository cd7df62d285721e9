#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/nn/module.h"

namespace frost {

/// Where single modules of a graph differ from their rows: module name ("model.3.conv") -> attribute in PyTorch's words ->
/// value as text. A model YAML holds them under `modules:`, frost's own key, so they are stored with its text. Known:
/// `stride`, `padding`, `dilation` of a Conv2d ("2" or "[2, 1]"), `eps` and `momentum` of a BatchNorm2d, `act` of a Conv, a
/// BottleneckCSP or an activation alone ("nn.ReLU()"), `add` of a Bottleneck, `kernel_size`, `stride`, `padding`,
/// `ceil_mode` of a MaxPool2d, `size`, `scale_factor`, `mode`, `align_corners` of an Upsample.
using ModuleSettings = std::map<std::string, std::map<std::string, std::string>>;

/// Gives the modules below `model` these settings. Throws Error, beginning with `where`, for a module that is not there, an
/// attribute that it does not have or that cannot be changed, and a value that it cannot take.
void apply_settings(Module& model, const ModuleSettings& settings, const std::string& where);

/// What modules of a class (Module::torch_class) say of themselves in a checkpoint: the names of their attributes.
std::vector<std::string> attributes_of(const std::string& torch_class);
/// One attribute of one module as apply_settings reads it; "" where the module has none of that name.
std::string setting_of(Module& module, const std::string& attribute);
/// Can apply_settings change it? Others are only compared.
bool can_set(Module& module, const std::string& attribute);

}  // namespace frost
