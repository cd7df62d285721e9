#pragma once
#include <optional>
#include <string>

#include "models/graph/model_spec.h"

namespace frost {

/// Reads the grammar of docs/spec/model.md section 1. `classes`: replaces nc where it differs; `anchors_each`: replaces the
/// anchors by that many placeholders for each level. Throws Error with `name` and the row.
ModelSpec parse_model_yaml(const std::string& text, const std::string& name, std::optional<int> classes = {},
                           std::optional<int> anchors_each = {});

/// An existing file, or a model that frost carries: "yolov5n.yaml", "yolov5n".
ModelSpec load_model_spec(const std::string& path_or_name, std::optional<int> classes = {},
                          std::optional<int> anchors_each = {});

}  // namespace frost
