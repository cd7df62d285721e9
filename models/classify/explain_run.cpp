#include "models/classify/explain_run.h"

#include "models/classify/weights.h"
#include "models/zoo/weights.h"

namespace frost::classify {
namespace {

/// Null for a detector.
MakeClassifier model_maker(const slim::ExplainConfig& config) {
  if (!config.model.empty())
    return [name = config.model, classes = config.classes > 0 ? config.classes : 1000](Device& device) {
      return make_classifier(device, name, classes, {});  // costs do not depend on values
    };
  if (config.weights.empty()) return {};
  const auto weights = std::make_shared<ClassifierWeights>(read_classifier_weights(find_weights(config.weights)));
  if (weights->detector || weights->architecture.empty()) return {};
  const int classes = config.classes > 0 ? config.classes : class_count(*weights);
  return [weights, classes](Device& device) {
    std::unique_ptr<Classifier> model = build_classifier(device, *weights, classes, {}, weights->cutoff);
    take_weights(*model, *weights);  // for their masks: they take memory too
    return model;
  };
}

}  // namespace

std::optional<slim::Subject> explain_subject(const slim::ExplainConfig& config) {
  const MakeClassifier make = model_maker(config);
  if (!make) return {};
  FROST_CHECK(!config.cache_features, "--cache-features: classify-train keeps no features");
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device dry(make_dry_backend(*cpu, {}));
  const auto model = make(dry);
  const TraineeOptions options{.batch_size = config.batch_size,
                               .imgsz = Classifier::whole_strides(config.imgsz > 0 ? config.imgsz : 224),
                               .frozen_bn = config.frozen_bn,
                               .recompute = config.recompute};
  const auto freezing = [make, options](const std::vector<std::string>& terms, DType compute) {
    TraineeOptions of = options;
    of.compute = compute;
    return classification_trainee(
        make, [terms](Classifier& m) { frost::freeze(m, m.layers(), terms); }, of);
  };
  return slim::Subject{.name = model->architecture(),
                       .imgsz = options.imgsz,
                       .layers = model->layers().count(),
                       .backbone = model->layers().backbone,
                       .freezing = freezing};
}

void explain_training(const TrainConfig& config, Classifier& model, const MakeClassifier& make, int imgsz,
                      const RunDevice& run) {
  const slim::TrainingSetting setting{.batch_size = config.batch_size,
                                      .imgsz = imgsz,
                                      .compute = run.compute,
                                      .optimizer = config.optimizer,
                                      .frozen_bn = config.frozen_bn,
                                      .freeze = config.freeze};
  slim::explain_training(model, setting, run.device->backend(), [&](std::function<void(Module&)> mark, slim::FeatureCache) {
    return classification_trainee(make, std::move(mark),
                                  {.batch_size = config.batch_size,
                                   .imgsz = imgsz,
                                   .compute = run.compute,
                                   .frozen_bn = config.frozen_bn,
                                   .recompute = config.recompute});
  });
}

}  // namespace frost::classify
