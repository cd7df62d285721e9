#pragma once
#include <optional>

#include "engine/tensor/run_device.h"
#include "models/classify/trainee.h"
#include "models/classify/trainer.h"
#include "models/slim/explain_run.h"

namespace frost::classify {

/// The classifier that --model names or that the file of --weights holds; nothing where the flags name a detector.
std::optional<slim::Subject> explain_subject(const slim::ExplainConfig& config);

/// Prints what training `model`, frozen and masked as it is, will cost in all: with the averaged copy and its validation.
/// `make` builds it again; `imgsz`: as the trainer has rounded it. Nothing is run.
void explain_training(const TrainConfig& config, Classifier& model, const MakeClassifier& make, int imgsz,
                      const RunDevice& run);

}  // namespace frost::classify
