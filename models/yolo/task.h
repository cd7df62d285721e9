#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/training/loop.h"
#include "models/run/training.h"
#include "models/yolo/batches.h"
#include "models/yolo/cached_prefix.h"
#include "models/yolo/hyp.h"
#include "models/yolo/step.h"
#include "models/yolo/trainer.h"

namespace frost::yolo {

/// Detection plugged into the training loop. Config and hyperparameters must outlive it.
class DetectionTask final : public TrainingTask {
 public:
  DetectionTask(const TrainConfig& config, Device& device, DetectionModel& model, DType compute, const Hyp& hyp, int imgsz);

  void give_data(std::unique_ptr<DetectionLoader> train, std::shared_ptr<DetectionDataset> train_data,
                 std::unique_ptr<DetectionLoader> val, std::shared_ptr<DetectionDataset> val_data);
  void pictures(const std::filesystem::path& folder) { folder_ = folder; }
  /// Parameters have woken up: captured steps know neither their gradients nor where they are now.
  void forget_steps() { work_.forget(); }
  /// Keeps the frozen prefix's output for each image, in memory or in a file in `folder`. Again after something woke up:
  /// what was kept before is forgotten.
  void cache_features(const std::filesystem::path& folder);

  std::vector<std::string> loss_names() const override { return {"box_loss", "obj_loss", "cls_loss"}; }
  std::vector<std::string> metric_columns() const override {
    return {"metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95",
            "val/box_loss",      "val/obj_loss",   "val/cls_loss"};
  }
  std::int64_t batches_per_epoch() const override { return train_->batches(); }
  void begin_epoch(std::int64_t epoch) override;
  BatchReport train_batch() override;
  void use_loss_scale(const Tensor& scale) override { loss_scale_ = scale; }
  ValidationReport validate(Module& averaged, std::int64_t epoch, bool last) override;
  Metadata metadata() const override;

  DetectionLoader& val_loader() { return *val_; }
  const CachedPrefix* features() const { return features_.get(); }
  /// Batches that began at kept features, of this frozen prefix and of those before something woke up.
  std::int64_t cached_batches() const { return earlier_hits_ + (features_ ? features_->hits() : 0); }
  const LossSettings& loss() const { return loss_; }
  /// After the last validations: says what they could not decode, which --strict does not let pass.
  void check_faults() {
    faults_.of_validation(val_data_->take_warnings());
    faults_.check();
  }

 private:
  /// --multi-scale: a size of 0.5 to 1.5 times the image size, in steps of the stride (docs/spec/train.md section 7, step
  /// 3).
  Shape rescaled(const Shape& s) const;
  /// The batch in memory that is the same for each batch of its shape: captured steps read it there.
  Tensor uploaded(const DetectionBatch& batch, const Shape& shape);
  /// After the first batch it is known what all features will need.
  void check_room(const DetectionBatch& batch) const;

  const TrainConfig& config_;
  Device& device_;
  DetectionModel& model_;
  DType compute_;
  const Hyp& hyp_;
  int imgsz_;
  LossSettings loss_;
  Tensor loss_scale_;  // f16 training
  std::map<CapturedStep::Key, LossState> losses_;
  std::map<Shape, Tensor> pixels_;
  CapturedStep work_;
  run::FaultReports faults_;
  std::unique_ptr<DetectionLoader> train_, val_;
  std::shared_ptr<DetectionDataset> train_data_, val_data_;
  std::unique_ptr<CachedPrefix> features_;
  std::int64_t earlier_hits_ = 0;
  std::filesystem::path folder_;
  std::int64_t first_epoch_ = -1, epoch_ = 0, batch_ = 0;
};

}  // namespace frost::yolo
