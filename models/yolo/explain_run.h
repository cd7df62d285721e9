#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/tensor/run_device.h"
#include "models/graph/detection_model.h"
#include "models/yolo/trainer.h"

namespace frost::yolo {

/// What yolo-explain's flags say.
struct ExplainConfig {
  std::string weights, cfg;  // one of them
  std::vector<std::string> freeze{"0"};
  FrozenBn frozen_bn = FrozenBn::running;
  int batch_size = 16, imgsz = 640;
  std::string precision = "f32", device;
  OptimizerKind optimizer = OptimizerKind::sgd;
  bool recompute = true;
  bool parts = false;    // the leaves of each module too
  bool measure = false;  // real steps beside the prediction
  std::filesystem::path json, html;
};

/// Prints what a training step costs with and without freezing, by module and in total; writes the JSON and HTML files.
void explain(const ExplainConfig& config);

/// Prints what training `model`, frozen and masked as it is, will cost in all: with the averaged copy and its validation.
/// `imgsz`: as the trainer has rounded it. Nothing is run.
void explain_training(const TrainConfig& config, DetectionModel& model, int imgsz, const RunDevice& run);

}  // namespace frost::yolo
