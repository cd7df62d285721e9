#pragma once
#include <string>

#include "models/graph/detection_model.h"
#include "models/zoo/yolo_checkpoint.h"

namespace frost {

/// Compares the modules that a .pt holds with what its YAML builds. YOLOv5 runs the pickled modules, so what they say
/// counts. Returns what frost can honour, as settings of the built modules; empty for a file that equals its YAML and for
/// one that holds no modules. Throws Error, beginning with `file`, with the module and the attribute for everything else:
/// another class, a module that nobody asked for, one that is missing, another padding mode.
ModuleSettings compare_modules(DetectionModel& built, const YoloCheckpoint& checkpoint, const std::string& file);

/// The spec with these settings, in its text too.
ModelSpec with_settings(const ModelSpec& spec, const ModuleSettings& settings);

}  // namespace frost
