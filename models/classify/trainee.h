#pragma once
#include <functional>

#include "models/classify/classifier.h"
#include "models/slim/explain.h"

namespace frost::classify {

/// One batch of a classifier's training, for explain.
struct TraineeOptions {
  int batch_size = 64, imgsz = 224;
  DType compute = DType::f32;
  FrozenBn frozen_bn = FrozenBn::running;
  bool recompute = true;
};
using MakeClassifier = std::function<std::unique_ptr<Classifier>(Device&)>;

/// `freeze` marks the parameters that will not train.
slim::BuildTrainee classification_trainee(MakeClassifier make, std::function<void(Classifier&)> freeze,
                                          const TraineeOptions& options);

}  // namespace frost::classify
