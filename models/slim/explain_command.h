#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/report/observer.h"
#include "engine/tensor/run_device.h"
#include "models/slim/explain.h"

namespace frost::slim {

/// What yolo-explain's flags say.
struct ExplainConfig {
  std::string weights, cfg, model;  // one of them; `model`: a classifier's architecture
  int classes = 0;                  // of a classifier; 0: what its file has, else ImageNet's 1000
  std::vector<std::string> freeze{"0"};
  FrozenBn frozen_bn = FrozenBn::running;
  int batch_size = 16, imgsz = 0;          // 0: what the family is usually trained at
  std::string precision = "auto", device;  // RunDevice's
  OptimizerKind optimizer = OptimizerKind::sgd;
  bool recompute = true;
  bool cache_features = false;  // a step of an epoch after the first
  bool parts = false;           // the leaves of each module too
  bool measure = false;         // real steps beside the prediction
  std::filesystem::path json, html;
};

/// Prints what a training step of `model` costs with and without freezing, by module and in total; writes the JSON and HTML
/// files. `make` makes its family's task on noise of `imgsz` pixels; the model's trainable flags are changed.
void explain(const ExplainConfig& config, Model& model, int imgsz, const MakeTask& make, const RunDevice& run,
             Observer& observer);

/// A training that is about to begin, for --dry-run.
struct TrainingSetting {
  int batch_size = 0, imgsz = 0;
  DType compute = DType::f32;
  OptimizerKind optimizer = OptimizerKind::sgd;
  FrozenBn frozen_bn = FrozenBn::running;
  std::vector<std::string> freeze{"0"};
  bool cache_features = false;
};
/// Prints what training `model`, frozen and masked as it is, will cost in all on a device like `like`: with the averaged
/// copy and its validation. `make` makes its task for a step of that kind. Nothing is run.
void explain_training(Model& model, const TrainingSetting& setting, const Backend& like,
                      const std::function<MakeTask(FeatureCache)>& make, Observer& observer);

}  // namespace frost::slim
