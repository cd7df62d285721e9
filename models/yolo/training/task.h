#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/task.h"
#include "models/yolo/data/batches.h"
#include "models/yolo/training/cached_prefix.h"
#include "models/yolo/training/hyp.h"
#include "models/yolo/training/step.h"

namespace frost::yolo {

/// What a detector's step depends on.
struct DetectionPlan : StepPlan {
  Hyp hyp{};
  int imgsz = 640;
  bool multi_scale = false;  // a size of 0.5 to 1.5 times that in each batch
  bool single_cls = false;
  std::string cache_features{};  // "", "ram", "disk": keeps what the frozen prefix makes of each image
};

/// The batches of a training and of its validations.
struct DetectionBatches {
  std::unique_ptr<DetectionLoader> train, val;
  std::shared_ptr<DetectionDataset> train_set, val_set;  // where they come from files
};
/// The same noise again and again, with as many boxes as COCO has; a validation is one batch, twice as large and as wide as
/// padding can make it.
DetectionBatches noise_batches(const Backend& backend, const DetectionModel& model, const NoiseOptions& options);

/// The training of a detector.
class DetectionTask : public Task {
 public:
  DetectionTask(Device& device, DetectionModel& model, DetectionPlan plan, DetectionBatches data,
                Observer& observer = silence());

  Model& model() override { return model_; }
  std::int64_t images() const override { return data_.train_set->size(); }
  std::vector<std::string> loss_names() const override { return {"box_loss", "obj_loss", "cls_loss"}; }
  std::vector<std::string> metric_columns() const override {
    return {"metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95",
            "val/box_loss",      "val/obj_loss",   "val/cls_loss"};
  }
  std::int64_t batches_per_epoch() const override { return data_.train->batches(); }
  void begin_run(const std::filesystem::path& folder) override;
  std::string opening(const std::filesystem::path& folder, int epochs) const override;
  void begin_epoch(std::int64_t epoch) override;
  BatchReport train_batch() override;
  void use_loss_scale(const Tensor& scale) override { loss_scale_ = scale; }
  std::string table_header(std::int64_t epoch) override;
  std::string table_row(const EpochProgress& progress) override;
  ValidationReport validate(Module& ema_model, std::int64_t epoch, bool last) override;
  Metadata metadata() const override;
  void unfrozen() override;
  void check_faults() override;
  std::string closing(std::int64_t steps) const override;
  void judge(const std::filesystem::path& weights, const std::filesystem::path& folder) override;
  std::int64_t kept_each() const override { return features_ ? features_->bytes_each() : 0; }

  int workers = 0;     // threads that read images: what opening() says
  bool plots = false;  // image grids of the first batches and of the result

 private:
  /// Keeps the frozen prefix's output for each image; what was kept before is forgotten.
  void cache_features();
  /// Batches that began at kept features, of this frozen prefix and of those before something was unfrozen.
  std::int64_t cached_batches() const { return earlier_hits_ + (features_ ? features_->hits() : 0); }
  /// --multi-scale: a size of 0.5 to 1.5 times the image size, in steps of the stride (docs/spec/train.md section 7, step
  /// 3).
  Shape rescaled(const Shape& s) const;
  /// The batch in memory that is the same for each batch of its shape: captured steps read it there.
  Tensor uploaded(const DetectionBatch& batch, const Shape& shape);
  /// After the first batch it is known what all features will need.
  void check_room(const DetectionBatch& batch) const;

  Device& device_;
  DetectionModel& model_;
  DetectionPlan plan_;
  DetectionBatches data_;
  Observer& observer_;
  LossSettings loss_;
  Tensor loss_scale_;  // f16 training
  std::map<CapturedStep::Key, LossState> losses_;
  std::map<Shape, Tensor> pixels_;
  CapturedStep work_;
  FaultReports faults_;
  std::unique_ptr<CachedPrefix> features_;
  std::int64_t earlier_hits_ = 0;
  std::filesystem::path folder_;
  std::int64_t first_epoch_ = -1, epoch_ = 0, batch_ = 0;
};

/// The task of a detector on noise.
MakeTask noise_task(const DetectionPlan& plan, const NoiseOptions& options);

}  // namespace frost::yolo
