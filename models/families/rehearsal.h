#pragma once
#include <memory>

#include "engine/report/observer.h"
#include "models/slim/explain_command.h"

namespace frost {

/// The model that yolo-explain's flags name, on a meta device. Throws Error where they name none.
std::unique_ptr<Model> model_to_explain(Device& device, const slim::ExplainConfig& config, Observer& observer);

/// The image size that the model's family would train at where `imgsz` is asked for; 0: its usual one.
int training_size(const Model& model, int imgsz, Observer& observer);

/// The model's own task with noise as its data.
MakeTask noise_task(const Model& model, const StepPlan& plan, const NoiseOptions& options);

}  // namespace frost
