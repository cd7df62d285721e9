#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/report/observer.h"
#include "engine/report/run_summary.h"
#include "models/model.h"

namespace frost {

/// Images with boxes, as a data set's YAML names them (docs/data.md): folders of images with YOLO label files beside them.
struct DetectionData {
  explicit DetectionData(std::string yaml);
  std::string yaml;
  std::vector<std::string> names;  // of the classes
};

/// Images in a folder for each class, below train/ and val/ (docs/classification.md).
struct ClassificationData {
  explicit ClassificationData(std::string folder);
  std::string folder;
  std::vector<std::string> names;  // of the classes
};

/// How to train; the names and what they do are those of yolo-train and classify-train. 0 or empty: the family's default.
struct TrainOptions {
  int epochs = 0, batch_size = 0, imgsz = 0;
  std::string optimizer{};  // SGD, Adam, AdamW
  double lr0 = 0;           // of a classifier; a detector's is in `hyp`
  std::string hyp{};        // of a detector: a YAML of hyperparameters
  std::string precision = "auto";
  std::vector<std::string> unfreeze_at{};  // "5:6": from epoch 5 on only the first 6 layers are frozen
  std::string prune_schedule{};            // FROM:TO:EPOCHS: prunes while training
  std::string cache{};                     // "ram": images are decoded once
  int workers = 8;
  std::uint64_t seed = 0;
  bool plots = false;
  std::filesystem::path project = "runs/train";  // the run's folder is project/name, name2, ...
  std::string name = "exp";
};

struct TrainResult {
  std::filesystem::path folder;  // results.csv, weights/best.safetensors, ...
  RunSummary summary;            // what it cost and reached
};

/// Trains a model. What freeze() froze does not change. If the data has another number of classes, the model gets a new
/// last layer. Afterwards it has the best epoch's weights (the EMA model's) and the data's class names. Throws Error: one
/// line with the file and the cause, or the option and its range. The model is then unchanged.
///
/// A run writes the files that the tools write. What the tools print goes to `observer`.
TrainResult train(Model& model, const DetectionData& data, const TrainOptions& options = {}, Observer& observer = silence());
TrainResult train(Model& model, const ClassificationData& data, const TrainOptions& options = {},
                  Observer& observer = silence());

}  // namespace frost
