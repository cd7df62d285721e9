#include "models/families/load_model.h"

#include <algorithm>

#include "models/classify/weights.h"
#include "models/yolo/model_io.h"
#include "models/zoo/weights.h"

namespace frost {

StoredModel read_model(Device& device, const std::string& name, Observer& observer) {
  const std::filesystem::path file = find_weights(name, observer);
  classify::ClassifierWeights weights = classify::read_classifier_weights(file);
  if (!weights.detector && !weights.architecture.empty()) {
    auto model = classify::classifier_of(device, weights);
    return {file, std::move(model), std::move(weights.state), std::move(weights.metadata)};
  }
  const YoloCheckpoint checkpoint = load_yolo_checkpoint(file);
  auto model = yolo::model_of(device, checkpoint, file.string());
  return {file, std::move(model), checkpoint.state, metadata_of(checkpoint)};
}

std::unique_ptr<Model> make_model(Device& device, const std::string& architecture, std::optional<int> classes,
                                  std::uint64_t seed) {
  const std::vector<std::string> classifiers = classify::classifier_names();
  if (std::ranges::find(classifiers, architecture) != classifiers.end())
    return classify::make_classifier(device, architecture, classes.value_or(1000), seed);
  return std::make_unique<DetectionModel>(device, load_model_spec(architecture, classes), seed);
}

std::unique_ptr<Model> load_model(Device& device, const std::string& file, Observer& observer) {
  return read_model(device, file, observer).model;
}

}  // namespace frost
