#include "models/yolo/explain_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/freeze.h"
#include "models/yolo/cached_prefix.h"
#include "models/yolo/model_io.h"
#include "models/yolo/trainee.h"
#include "models/zoo/weights.h"

namespace frost::yolo {
namespace {

/// The model that the flags name: its graph is read once, its modules are built anew for each question.
MakeModel model_maker(const slim::ExplainConfig& config) {
  FROST_CHECK(!config.weights.empty() || !config.cfg.empty(), "one of --weights, --cfg and --model must be specified");
  if (!config.cfg.empty()) {
    ModelSpec spec = load_model_spec(config.cfg);
    for (const std::string& warning : spec.warnings) fmt::print(stderr, "{}\n", warning);
    return [spec = std::move(spec)](Device& device) { return std::make_unique<DetectionModel>(device, spec); };
  }
  const std::filesystem::path file = find_weights(config.weights);
  return [file, checkpoint = std::make_shared<YoloCheckpoint>(load_yolo_checkpoint(file, CheckpointPart::model))](
             Device& device) { return model_of(device, *checkpoint, file.string()); };
}

}  // namespace

slim::Subject explain_subject(const slim::ExplainConfig& config) {
  const MakeModel make = model_maker(config);
  FROST_CHECK(config.classes == 0, "--classes: ", config.weights, " is a detector; --classes is for classifiers");
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device dry(make_dry_backend(*cpu, {}));
  const auto model = make(dry);
  if (config.cache_features) {
    frost::freeze(*model, model->layers(), config.freeze);
    check_cacheable(*model, config.frozen_bn);
  }
  const int stride = model->stride(), wanted = config.imgsz > 0 ? config.imgsz : 640;
  const TraineeOptions options{.batch_size = config.batch_size,
                               .imgsz = std::max((wanted + stride - 1) / stride * stride, 2 * stride),
                               .frozen_bn = config.frozen_bn,
                               .recompute = config.recompute,
                               .features = config.cache_features ? slim::FeatureCache::filled : slim::FeatureCache::off};
  const auto freezing = [make, options](const std::vector<std::string>& terms, DType compute) {
    TraineeOptions of = options;
    of.compute = compute;
    return detection_trainee(
        make, [terms](DetectionModel& m) { frost::freeze(m, m.layers(), terms); }, of);
  };
  return {.name = std::filesystem::path(model->spec().name).stem().string(),
          .imgsz = options.imgsz,
          .layers = model->layers().count(),
          .backbone = model->layers().backbone,
          .freezing = freezing};
}

void explain_training(const TrainConfig& config, DetectionModel& model, int imgsz, const RunDevice& run) {
  if (config.multi_scale) {
    imgsz = (imgsz * 3 / 2 + model.stride() - 1) / model.stride() * model.stride();
    fmt::print("--multi-scale: the largest size counts, {}\n", imgsz);
  }
  const slim::TrainingSetting setting{.batch_size = config.batch_size,
                                      .imgsz = imgsz,
                                      .compute = run.compute,
                                      .optimizer = config.optimizer,
                                      .frozen_bn = config.frozen_bn,
                                      .freeze = config.freeze,
                                      .cache_features = !config.cache_features.empty() && model.frozen_prefix() > 0};
  const auto trainee = [&](std::function<void(Module&)> mark, slim::FeatureCache features) {
    return detection_trainee(
        [&](Device& device) {
          return std::make_unique<DetectionModel>(device, model.spec(), config.seed, widths_of(model));
        },
        std::move(mark),
        {.batch_size = config.batch_size,
         .imgsz = imgsz,
         .compute = run.compute,
         .frozen_bn = config.frozen_bn,
         .recompute = config.recompute,
         .features = features});
  };
  slim::explain_training(model, setting, run.device->backend(), trainee);
}

}  // namespace frost::yolo
