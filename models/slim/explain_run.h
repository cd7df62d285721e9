#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

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

/// The model that the flags name, as its family presents it.
struct Subject {
  std::string name;  // "yolov5n", "resnet18"
  int imgsz = 0;     // as the family's trainer would round it
  int layers = 0;    // that --freeze counts
  int backbone = 0;  // the first ones of them
  /// The trainee with what these terms of --freeze name frozen, computing in that type.
  std::function<BuildTrainee(const std::vector<std::string>& terms, DType compute)> freezing;
};

/// Prints what a training step costs with and without freezing, by module and in total; writes the JSON and HTML files.
void explain(const ExplainConfig& config, const Subject& subject);

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
/// copy and its validation. `trainee(mark, features)` presents a copy of the model after mark(copy). Nothing is run.
using TraineeOf = std::function<BuildTrainee(std::function<void(Module&)> mark, FeatureCache features)>;
void explain_training(Module& model, const TrainingSetting& setting, const Backend& like, const TraineeOf& trainee);

}  // namespace frost::slim
