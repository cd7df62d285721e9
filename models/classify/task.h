#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/classify/dataset.h"
#include "models/classify/step.h"
#include "models/classify/validator.h"
#include "models/task.h"

namespace frost::classify {

/// The batches of a training and of its validations.
struct ClassificationBatches {
  std::unique_ptr<ImageLoader> train, val;
  std::shared_ptr<ImageFaults> train_faults{}, val_faults{};  // where they come from files
  std::int64_t images = 0;                                    // of an epoch
  std::string val_name = "val", name{};                       // or "test"; of the data set
};
struct LoadingSettings {
  DataSplits splits;
  std::string name;  // as shown to the user
  int imgsz = 224, batch_size = 64, workers = 0;
  bool augment = true, cache = false;
  std::uint64_t seed = 0;
};
ClassificationBatches make_batches(const LoadingSettings& data, const Preprocessing& preprocessing);
/// The same noise again and again; a validation is one batch, twice as large.
ClassificationBatches noise_batches(const Backend& backend, int classes, const NoiseOptions& options);

/// The training of a classifier.
class ClassificationTask : public Task {
 public:
  ClassificationTask(Device& device, Classifier& model, const StepPlan& plan, ClassificationBatches data,
                     Observer& observer = silence());

  Model& model() override { return model_; }
  std::int64_t images() const override { return data_.images; }
  std::vector<std::string> loss_names() const override { return {"loss"}; }
  std::vector<std::string> metric_columns() const override {
    return {data_.val_name + "/loss", "metrics/accuracy_top1", "metrics/accuracy_top5"};
  }
  std::int64_t batches_per_epoch() const override { return data_.train->batches(); }
  void begin_run(const std::filesystem::path& folder) override { folder_ = folder; }
  std::string opening(const std::filesystem::path& folder, int epochs) const override;
  void begin_epoch(std::int64_t epoch) override;
  BatchReport train_batch() override;
  void use_loss_scale(const Tensor& scale) override { loss_scale_ = scale; }
  std::string table_header(std::int64_t epoch) override;
  std::string table_row(const EpochProgress& progress) override;
  ValidationReport validate(Module& ema_model, std::int64_t epoch, bool last) override;
  Metadata metadata() const override { return model_.metadata(); }
  void unfrozen() override { work_.forget(); }
  void check_faults() override;
  void judge(const std::filesystem::path& weights, const std::filesystem::path& folder) override;

  bool plots = false;    // image grids of the first batches and of the result
  std::string settings;  // what opening() says of sizes and workers

 private:
  /// The batch in memory that is the same for each batch of its size: captured steps read it there.
  Tensor uploaded(const ImageBatch& batch, const Shape& shape);

  Device& device_;
  Classifier& model_;
  StepPlan plan_;
  ClassificationBatches data_;
  Observer& observer_;
  Normaliser normalise_;
  std::map<std::int64_t, LossState> losses_;  // by the images in a batch
  std::map<std::int64_t, Tensor> pixels_;
  Tensor loss_scale_;  // f16 training
  CapturedStep work_;
  FaultReports faults_;
  std::filesystem::path folder_;
  std::int64_t epoch_ = 0, batch_ = 0;
  bool printed_ = false;
  std::string row_;  // the epoch's, which the validation completes
};

/// The task of a classifier on noise.
MakeTask noise_task(const StepPlan& plan, const NoiseOptions& options);

}  // namespace frost::classify
