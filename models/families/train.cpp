#include "models/families/train.h"

#include <unistd.h>

#include "engine/checkpoint/module_state.h"
#include "models/classify/classifier.h"
#include "models/classify/dataset.h"
#include "models/classify/trainer.h"
#include "models/families/load_model.h"
#include "models/graph/detection_model.h"
#include "models/yolo/data/data_config.h"
#include "models/yolo/training/trainer.h"

namespace frost {
namespace {

namespace fs = std::filesystem;

/// The model as a file, for as long as a run needs it to begin with.
class StartFile {
 public:
  explicit StartFile(Model& model)
      : path_(fs::temp_directory_path() / ("frost-start-" + std::to_string(getpid()) + ".safetensors")) {
    model.save(path_);
  }
  ~StartFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  StartFile(const StartFile&) = delete;
  StartFile& operator=(const StartFile&) = delete;
  std::string name() const { return path_.string(); }

 private:
  fs::path path_;
};

std::vector<std::string> frozen_names(Model& model) {
  std::vector<std::string> names;
  for (const Parameter* p : model.parameters())
    if (!p->trainable) names.push_back(p->name);
  return names.empty() ? std::vector<std::string>{"0"} : names;
}

/// What both families' options have.
template <class Config>
Config config_of(Model& model, const TrainOptions& o) {
  Config c;
  if (o.epochs) c.epochs = o.epochs;
  if (o.batch_size) c.batch_size = o.batch_size;
  if (o.imgsz) c.imgsz = o.imgsz;
  if (!o.optimizer.empty()) c.optimizer = parse_optimizer(o.optimizer);
  c.device = model.parameters().at(0)->value.device().name();
  c.freeze = frozen_names(model);
  c.precision = o.precision, c.unfreeze_at = o.unfreeze_at, c.prune_schedule = o.prune_schedule, c.cache = o.cache;
  c.workers = o.workers, c.seed = o.seed, c.noplots = !o.plots, c.project = o.project, c.name = o.name;
  return c;
}

TrainResult finished(Model& model, const fs::path& folder) {
  const StoredModel best =
      read_model(model.parameters().at(0)->value.device(), (folder / "weights/best.safetensors").string());
  load_state(model, state_of(*best.model));
  return {folder, read_run_summary(folder)};
}

}  // namespace

DetectionData::DetectionData(std::string file) : yaml(std::move(file)), names(yolo::load_data_config(yaml).names) {}
ClassificationData::ClassificationData(std::string path)
    : folder(std::move(path)), names(classify::find_splits(folder).train.classes) {}

TrainResult train(Model& model, const DetectionData& data, const TrainOptions& options, Observer& observer) {
  FROST_CHECK(dynamic_cast<DetectionModel*>(&model), "train: ", model.architecture(), " is no detector");
  model.set_classes(data.names, options.seed);
  const StartFile start(model);
  auto config = config_of<yolo::TrainConfig>(model, options);
  config.weights = start.name(), config.data = data.yaml;
  if (!options.hyp.empty()) config.hyp = options.hyp;
  return finished(model, yolo::train(config, observer));
}

TrainResult train(Model& model, const ClassificationData& data, const TrainOptions& options, Observer& observer) {
  FROST_CHECK(dynamic_cast<classify::Classifier*>(&model), "train: ", model.architecture(), " is no classifier");
  model.set_classes(data.names, options.seed);
  const StartFile start(model);
  auto config = config_of<classify::TrainConfig>(model, options);
  config.model = start.name(), config.data = data.folder;
  if (options.lr0 > 0) config.lr0 = options.lr0;
  return finished(model, classify::train(config, observer));
}

}  // namespace frost
