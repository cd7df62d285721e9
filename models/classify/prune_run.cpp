#include "models/classify/prune_run.h"

#include "engine/checkpoint/packed.h"
#include "models/classify/val_run.h"
#include "models/classify/weights.h"
#include "models/zoo/weights.h"

namespace frost::classify {

std::optional<slim::PruneSubject> prune_subject(const slim::PruneConfig& config, Device& device) {
  const std::filesystem::path file = find_weights(config.weights);
  ClassifierWeights weights = read_classifier_weights(file);
  if (weights.detector || weights.architecture.empty()) return {};
  const std::shared_ptr<Classifier> model = classifier_of(device, weights);
  return slim::PruneSubject{
      .file = file,
      .model = model,
      .summary = model->summary(device, ValConfig().imgsz),
      .stored = std::move(weights.state),
      .metadata = std::move(weights.metadata),
      .image = {1, Classifier::kStride, Classifier::kStride, 3},
      .forward = [model](Context& context, const Var& image) { return std::vector<Var>{model->forward(context, image)}; },
      .save =
          [model](const std::filesystem::path& to, const StateDict& state, const Metadata& about) {
            std::map<std::string, std::string> metadata = classifier_metadata(*model);
            metadata.insert(about.begin(), about.end());
            write_checkpoint(to, state, metadata);
          },
      .validate =
          [config](const std::string& which) {
            run_validation({.data = config.data,
                            .weights = which,
                            .batch_size = config.batch_size,
                            .imgsz = config.imgsz > 0 ? config.imgsz : ValConfig().imgsz,
                            .device = config.device,
                            .noplots = true});
          }};
}

}  // namespace frost::classify
