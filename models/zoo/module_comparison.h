#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/checkpoint/torch_file.h"
#include "models/graph/model_spec.h"

namespace frost {

/// A pickled module of a .pt: its class and its attributes, values as module_settings.h writes them.
struct PickledModule {
  std::string name, type;  // "model.3.conv", "torch.nn.modules.conv.Conv2d"
  std::map<std::string, std::string> attributes;
};

/// Compares the modules that a .pt holds with what its YAML builds. YOLOv5 runs the pickled modules, so what they say
/// counts. Returns what frost can honour, as settings of the built modules; empty for a file that equals its YAML and for
/// one that holds no modules. Throws Error, beginning with `file`, with the module and the attribute for everything else:
/// another class, a module that nobody asked for, one that is missing, another order, another padding mode. `whose`: who
/// asks for the built modules.
ModuleSettings compare_modules(Module& built, const std::vector<PickledModule>& modules, const StateDict& state,
                               const std::string& file, const std::string& whose = "the model's YAML");

/// Throws Error where the modules read other layers than the rows of their YAML.
void check_inputs(const ModelSpec& spec, const std::vector<PickledModule>& modules, const std::string& file);

/// Class and attributes of a pickled network and its modules, parents before children. Call TorchFile::module_state before:
/// it refuses endless trees. Throws Error with the path of the first module of a class that frost does not know.
std::vector<PickledModule> pickled_modules(const TorchFile& file, pickle::Ref network);

/// The spec with these settings, in its text too.
ModelSpec with_settings(const ModelSpec& spec, const ModuleSettings& settings);

}  // namespace frost
