#pragma once
#include "engine/tensor/run_device.h"
#include "models/graph/detection_model.h"
#include "models/slim/explain_run.h"
#include "models/yolo/trainer.h"

namespace frost::yolo {

/// The detector that --weights or --cfg names. Throws Error where neither does.
slim::Subject explain_subject(const slim::ExplainConfig& config);

/// Prints what training `model`, frozen and masked as it is, will cost in all: with the averaged copy and its validation.
/// `imgsz`: as the trainer has rounded it. Nothing is run.
void explain_training(const TrainConfig& config, DetectionModel& model, int imgsz, const RunDevice& run);

}  // namespace frost::yolo
