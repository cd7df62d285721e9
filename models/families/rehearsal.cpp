#include "models/families/rehearsal.h"

#include <algorithm>

#include "models/classify/task.h"
#include "models/classify/weights.h"
#include "models/families/load_model.h"
#include "models/yolo/training/task.h"
#include "models/zoo/weights.h"

namespace frost {
namespace {

bool is_detector(const Model& model) { return dynamic_cast<const DetectionModel*>(&model) != nullptr; }

}  // namespace

std::unique_ptr<Model> model_to_explain(Device& device, const slim::ExplainConfig& config, Observer& observer) {
  FROST_CHECK(!config.weights.empty() || !config.cfg.empty() || !config.model.empty(),
              "one of --weights, --cfg and --model must be specified");
  if (!config.model.empty())
    return classify::make_classifier(device, config.model, config.classes > 0 ? config.classes : 1000, {});
  if (!config.cfg.empty()) {
    ModelSpec spec = load_model_spec(config.cfg);
    for (const std::string& warning : spec.warnings) observer.warning(warning + "\n");
    return std::make_unique<DetectionModel>(device, std::move(spec), std::nullopt);
  }
  if (config.classes == 0) return load_model(device, config.weights, observer);
  const classify::ClassifierWeights weights = classify::read_classifier_weights(find_weights(config.weights, observer));
  FROST_CHECK(!weights.detector && !weights.architecture.empty(), "--classes: ", config.weights,
              " is a detector; --classes is for classifiers");
  auto model = classify::build_classifier(device, weights, config.classes, {}, weights.cutoff);
  classify::take_weights(*model, weights);  // for their masks: they take memory too
  return model;
}

int training_size(const Model& model, int imgsz, Observer& observer) {
  if (!is_detector(model)) return classify::Classifier::whole_strides(imgsz > 0 ? imgsz : model.usual_imgsz(), observer);
  const int stride = model.stride(), wanted = imgsz > 0 ? imgsz : model.usual_imgsz();
  return std::max((wanted + stride - 1) / stride * stride, 2 * stride);
}

MakeTask noise_task(const Model& model, const StepPlan& plan, const NoiseOptions& options) {
  if (is_detector(model)) return yolo::noise_task({plan}, options);
  FROST_CHECK(options.features == FeatureCache::off, "--cache-features: classify-train keeps no features");
  return classify::noise_task(plan, options);
}

}  // namespace frost
