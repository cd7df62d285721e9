#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "engine/checkpoint/module_state.h"
#include "models/graph/detection_model.h"
#include "models/zoo/yolo_checkpoint.h"

namespace frost::yolo {

/// The model of a checkpoint with its weights, for validation and detection. Throws Error where tensors are missing.
std::unique_ptr<DetectionModel> load_model(Device& device, const std::filesystem::path& weights);
std::unique_ptr<DetectionModel> model_of(Device& device, const YoloCheckpoint& checkpoint, const std::string& file);

/// The metadata under which frost's own checkpoints describe a model (see checkpoint_key).
std::map<std::string, std::string> model_metadata(const DetectionModel& model, const std::map<std::string, double>& hyp);

}  // namespace frost::yolo
