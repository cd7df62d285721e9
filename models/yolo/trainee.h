#pragma once
#include "models/graph/detection_model.h"
#include "models/slim/explain.h"

namespace frost::yolo {

/// One batch of a detector's training, for explain.
struct TraineeOptions {
  int batch_size = 16, imgsz = 640;
  int boxes_each = 7;  // labels for each image: COCO's mean
  DType compute = DType::f32;
  FrozenBn frozen_bn = FrozenBn::running;
  bool recompute = true;
  slim::FeatureCache features = slim::FeatureCache::off;  // where nothing is frozen from layer 0 on: off
};
using MakeModel = std::function<std::unique_ptr<DetectionModel>(Device&)>;

/// `freeze` marks the parameters that will not train.
slim::BuildTrainee detection_trainee(MakeModel make, std::function<void(DetectionModel&)> freeze,
                                     const TraineeOptions& options);

}  // namespace frost::yolo
