#include "models/families/train.h"

#include <cmath>

#include "engine/checkpoint/module_state.h"
#include "models/classify/classifier.h"
#include "models/classify/dataset.h"
#include "models/classify/trainer.h"
#include "models/families/load_model.h"
#include "models/graph/detection_model.h"
#include "models/run/train.h"
#include "models/yolo/data/data_config.h"
#include "models/yolo/training/trainer.h"

namespace frost {
namespace {

std::vector<std::string> frozen_names(Model& model) {
  std::vector<std::string> names;
  for (const Parameter* p : model.parameters())
    if (!p->trainable) names.push_back(p->name);
  return names.empty() ? std::vector<std::string>{"0"} : names;
}

/// What both families' options have.
template <class Config>
Config config_of(Model& model, const TrainOptions& o) {
  const auto check = [](const char* name, int value, int least) {
    FROST_CHECK(value == 0 || value >= least, "train: ", name, ": must be at least ", least, " (given: ", value, ")");
  };
  check("epochs", o.epochs, 1), check("batch_size", o.batch_size, 1), check("imgsz", o.imgsz, 32);
  check("workers", o.workers, 1);
  FROST_CHECK(std::isfinite(o.lr0) && o.lr0 >= 0, "train: lr0: must be a finite number above 0 (given: ", o.lr0, ")");
  FROST_CHECK(o.cache.empty() || o.cache == "ram", "train: cache: ram or nothing (given: ", o.cache, ")");
  Config c;
  if (o.epochs) c.epochs = o.epochs;
  if (o.batch_size) c.batch_size = o.batch_size;
  if (o.imgsz) c.imgsz = o.imgsz;
  if (!o.optimizer.empty()) c.optimizer = parse_optimizer(o.optimizer);
  c.device = model.device().name();
  c.freeze = frozen_names(model);
  c.precision = o.precision, c.unfreeze_at = o.unfreeze_at, c.prune_schedule = o.prune_schedule, c.cache = o.cache;
  c.workers = o.workers, c.seed = o.seed, c.noplots = !o.plots, c.project = o.project, c.name = o.name;
  return c;
}

/// A copy of the model that is trained: if training fails, the original is unchanged.
template <class Family>
std::unique_ptr<Family> copy_of(Model& model) {
  FROST_CHECK(dynamic_cast<Family*>(&model), "train: ", model.architecture(), " is not of the data's kind");
  std::unique_ptr<Model> copy = model.copy_architecture(model.device());
  load_state(*copy, state_of(model));
  return std::unique_ptr<Family>(dynamic_cast<Family*>(copy.release()));
}

TrainResult finished(Model& model, const run::RunResult& run) {
  const StoredModel best = read_model(model.device(), run.weights.string());
  model.set_classes(best.model->names);
  const LoadReport report = load_state(model, state_of(*best.model));
  FROST_CHECK(report.missing.empty() && report.other_shape.empty() && report.unexpected.empty(), run.weights.string(),
              ": is not a checkpoint of this model (", report.copied, " of ", report.total, " tensors fit)");
  return {run.folder, run.summary};
}

}  // namespace

DetectionData::DetectionData(std::string file) : yaml(std::move(file)), names(yolo::load_data_config(yaml).names) {}
ClassificationData::ClassificationData(std::string path)
    : folder(std::move(path)), names(classify::find_splits(folder).train.classes) {}

TrainResult train(Model& model, const DetectionData& data, const TrainOptions& options, Observer& observer) {
  FROST_CHECK(options.lr0 == 0, "train: lr0: a detector's stands in its hyperparameters (hyp)");
  auto config = config_of<yolo::TrainConfig>(model, options);
  config.data = data.yaml;
  if (!options.hyp.empty()) config.hyp = options.hyp;
  return finished(model, yolo::train(config, copy_of<DetectionModel>(model), observer));
}

TrainResult train(Model& model, const ClassificationData& data, const TrainOptions& options, Observer& observer) {
  FROST_CHECK(options.hyp.empty(), "train: hyp: a classifier has none");
  auto config = config_of<classify::TrainConfig>(model, options);
  config.model = model.architecture(), config.data = data.folder;
  if (options.lr0 > 0) config.lr0 = options.lr0;
  return finished(model, classify::train(config, copy_of<classify::Classifier>(model), observer));
}

}  // namespace frost
