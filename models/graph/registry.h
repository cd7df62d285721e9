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

/// Builds one row of a graph from the registry of blocks; `inputs`: the channels of what it reads.
/// Throws Error naming the file, the row and the known modules where the module's name is unknown.
BuiltLayer build_layer(const BlockBuilder& builder, const ModelSpec& spec, const LayerSpec& layer,
                       const std::vector<std::int64_t>& inputs);

/// The names a YAML may use.
std::vector<std::string> known_modules();

}  // namespace frost
