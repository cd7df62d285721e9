#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/graph/blocks.h"
#include "models/graph/model_spec.h"

namespace frost {

struct BuiltLayer {
  std::unique_ptr<Module> module;
  std::int64_t channels = 0;  // of its output
  int printed_number = 1;
  std::string type, arguments;  // as YOLOv5's table prints them
};

/// Builds one row of a graph from the registry of blocks; `inputs`: the channels of what it reads. What the spec says
/// (activations, names for messages) need not be set in `builder`. Throws Error naming the file, the row and the argument.
BuiltLayer build_layer(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer,
                       const std::vector<std::int64_t>& inputs);

/// Throws Error where a YAML may not use this name: "yolo.yaml: layer 4: unknown module 'Segment' ...", with what is known
/// about such files.
void check_module_name(const std::string& file, int layer, const std::string& module);

/// What is known about a module that frost does not build: ": segmentation is not supported"; empty: nothing.
std::string module_hint(const std::string& module);

}  // namespace frost
