#pragma once
#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>
#include <vector>

#include "kernels/activation.h"
#include "models/graph/module_settings.h"

namespace frost {

/// One row [from, number, module, args] of a model YAML, after the rules of docs/spec/model.md section 1.2, except for
/// channels.
struct LayerSpec {
  int index = 0;
  std::vector<int> from;  // as written: -1 previous, other negatives relative, the rest absolute
  bool from_is_list = false;
  int number = 1;  // repeats after depth_multiple
  std::string module;
  std::vector<YAML::Node> args;
};

/// A parsed model YAML.
struct ModelSpec {
  std::string name;  // where it came from, for messages
  std::string text;  // the YAML itself, to be stored in checkpoints
  int classes = 80, channels = 3;
  double depth_multiple = 1, width_multiple = 1;
  std::vector<std::vector<float>>
      anchors;           // pixels: one list of w, h pairs for each Detect level; empty where anchors_each is set
  int anchors_each = 0;  // `anchors: 3`: that many placeholder anchors for each level
  Activation activation{ActivationKind::silu};
  std::string activation_text;  // as written, empty: default
  /// The one between the halves of a BottleneckCSP, which `activation` does not touch: SiLU in v7.0, LeakyReLU(0.1) up to
  /// v6.0. frost's own key `csp_activation`, for checkpoints of that time.
  Activation csp_activation{ActivationKind::silu};
  std::vector<LayerSpec> layers;
  ModuleSettings modules;             // under the key `modules`
  std::vector<std::string> warnings;  // oddities of the YAML, a line each
  int backbone = 0;                   // how many of the first layers are the backbone's

  int anchor_count() const { return anchors_each ? anchors_each : static_cast<int>(anchors.front().size() / 2); }
};

}  // namespace frost
