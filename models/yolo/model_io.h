#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "engine/checkpoint/module_state.h"
#include "models/graph/detection_model.h"
#include "models/zoo/yolo_checkpoint.h"

namespace frost::yolo {

/// The model of a checkpoint with its weights, for validation and detection. Throws Error where tensors are missing.
std::unique_ptr<DetectionModel> load_model(Device& device, const std::filesystem::path& weights);
std::unique_ptr<DetectionModel> model_of(Device& device, const YoloCheckpoint& checkpoint, const std::string& file);

/// A model of the spec's graph whose convolutions are as wide as the checkpoint's tensors say (filters may have been
/// pruned); its values are not loaded. Throws Error where they do not fit each other.
std::unique_ptr<DetectionModel> fitted_model(Device& device, ModelSpec spec, std::uint64_t seed,
                                             const YoloCheckpoint& checkpoint, const std::string& file);

}  // namespace frost::yolo
