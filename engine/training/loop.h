#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/checkpoint/safetensors.h"
#include "engine/report/observer.h"
#include "engine/report/results_csv.h"
#include "engine/report/run_summary.h"
#include "engine/training/updater.h"

namespace frost {

/// What one batch reports: its mean losses in the order of TrainingTask::loss_names, and the last columns of the progress
/// line.
struct BatchReport {
  std::vector<double> losses{};
  std::int64_t instances = 0, size = 0;
  Tensor device_losses{};  // instead of `losses`: (1, 1, 1, losses) f32 on the device, read every few batches
};

/// What a validation reports: the values of TrainingTask::metric_columns, and the number that "best" means.
struct ValidationReport {
  std::vector<double> metrics;
  double fitness = 0;
};

/// What the loop needs of a task: data, step, validation. Detection and classification each implement it.
class TrainingTask {
 public:
  virtual ~TrainingTask() = default;
  virtual std::vector<std::string> loss_names() const = 0;  // "box_loss", ...: progress columns, and train/... in the csv
  virtual std::vector<std::string> metric_columns() const = 0;  // csv columns after the losses
  virtual std::int64_t batches_per_epoch() const = 0;
  virtual void begin_epoch(std::int64_t epoch) = 0;
  /// Forward, loss and backward of the epoch's next batch; gradients are added to the parameters'.
  virtual BatchReport train_batch() = 0;
  /// The task's table: the lines above an epoch's row ("": none), and the row.
  virtual std::string table_header(std::int64_t epoch) = 0;
  virtual std::string table_row(const EpochProgress& progress) = 0;
  /// Validates the EMA model.
  virtual ValidationReport validate(Module& ema_model, std::int64_t epoch, bool last) = 0;
  /// A checkpoint's metadata of the model: yaml, names, strides, hyperparameters.
  virtual Metadata metadata() const = 0;
  /// f16 training: one f32 on the device that the loss's gradient has to be multiplied with.
  virtual void use_loss_scale(const Tensor&) { fail("this task cannot be trained with --precision f16"); }
};

struct LoopOptions {
  ScheduleConfig schedule;
  OptimizerKind optimizer = OptimizerKind::sgd;
  double clip = 10.0;
  bool loss_scaling = false;      // f16 training
  bool cuda_graph = true;         // capture the optimizer's work where the device can
  std::int64_t patience = 100;    // epochs without improvement; 0: never stop
  std::int64_t save_period = -1;  // an extra checkpoint every so many epochs
  std::int64_t best_from = 0;     // no earlier epoch is the best (it was not yet pruned as asked)
  bool nosave = false, noval = false;
  std::filesystem::path folder;  // the run's: results.csv, summary.json, weights/
  std::string run{};             // id of the run in its checkpoints; a resumed run has its file's
  // results.csv: its last columns (learning rates of biases, weights, norms, or the first of them), the width of a cell, and
  // whether an epoch's row has the next epoch's learning rate.
  std::vector<std::string> lr_columns{"lr/bias", "lr/weight", "lr/norm"};
  int csv_width = 12;
  bool next_lr = false;
  /// Called at each epoch's start: may unfreeze parameters, and returns whether it did.
  std::function<bool(std::int64_t epoch)> unfreeze{};
  std::function<void(std::int64_t epoch, std::int64_t batch)> before_batch{};
};

/// The training loop: epochs, warm-up and accumulation, optimizer and average, validation, checkpoints, early stop, resume.
/// docs/spec/train.md sections 6 to 11.
class TrainingLoop {
 public:
  /// `arena` holds `model`'s trainable parameters; `ema_model` is a second model of the same architecture: the averaged one.
  TrainingLoop(Device& device, Module& model, Module& ema_model, ParameterArena& arena, ModelEma& ema, TrainingTask& task,
               LoopOptions options, Observer& observer);

  /// Continues from a `last` file of an unfinished run, so that the result equals an uninterrupted run's. Files of that
  /// epoch that the killed process did not write are written. Call it with the run folder's lock held.
  void resume(const std::filesystem::path& file);
  /// Trains what is left to train, strips `best`, writes summary.json. `last` keeps the state that a run is resumed from.
  /// Throws Error on Ctrl-C or where a loss, a validation's number or a tensor of the checkpoint is not finite; the
  /// checkpoints of the epoch before stay.
  void run();
  /// The last action of a run: strips `last`, which cannot be resumed any more.
  void finish();

  std::int64_t start_epoch() const { return start_epoch_; }
  /// Whether an epoch is left to train.
  bool training_left() const;
  std::filesystem::path last() const { return options_.folder / "weights" / "last.safetensors"; }
  /// The result of a finished run: best, or last where no epoch was the best.
  std::filesystem::path result() const { return written_best_ ? best() : last(); }
  std::filesystem::path best() const { return options_.folder / "weights" / "best.safetensors"; }
  /// What the run cost and reached; also in its folder once it is finished.
  const RunSummary& summary() const { return summary_; }

 private:
  void train_epoch(std::int64_t epoch);
  /// Everything after an epoch's training: validation, checkpoints, its row.
  void end_epoch(ResultsCsv& csv, std::int64_t epoch);
  void note_fitness(std::int64_t epoch, double fitness);
  void save_unvalidated(std::int64_t epoch);
  void write_extra_checkpoints(std::int64_t epoch, const StateDict& tensors, const Metadata& metadata);  // best, epochN
  std::filesystem::path numbered(std::int64_t epoch) const;                                              // epochN
  /// Resumed: `best` must hold the epoch that the state says was written there. Another epoch of this run is replaced, from
  /// an epochN file, or removed with a notice; so is a file that cannot be read. Another run's file stays.
  void restore_best();
  std::vector<double> row_of(std::int64_t epoch) const;  // of results.csv
  bool may_stop_after(std::int64_t epoch) const;         // if it does not improve
  bool stops_after(std::int64_t epoch) const;            // since nothing has improved for so long
  /// The losses of `batch`, which may be the last of several that wait on the device.
  void note_losses(std::int64_t epoch, std::int64_t batch, const BatchReport& report);
  void take_losses(std::int64_t epoch, std::int64_t batch, std::span<const double> losses);
  void check_gradients(std::int64_t epoch, std::int64_t batch);  // warns of skipped steps
  std::string loss_scale_note() const;                           // " (loss scale 512, 3 steps skipped)" in f16 training
  void unfreeze(std::int64_t epoch, std::int64_t steps);
  void count_trainable();
  [[noreturn]] void interrupted(const char* when, std::int64_t epoch) const;
  /// A checkpoint's tensors: all that a resumed run needs. Throws Error where one is not finite after `epoch`.
  StateDict checked_state(std::int64_t epoch) const;
  /// And its metadata.
  Metadata metadata(std::int64_t epoch, bool validated) const;
  std::string last_good() const;  // for a run that has diverged

  Device& device_;
  Module &model_, &ema_model_;
  ParameterArena& arena_;
  ModelEma& ema_;
  TrainingTask& task_;
  LoopOptions options_;
  Observer& observer_;
  Updater updater_;
  std::int64_t start_epoch_ = 0, best_epoch_ = 0;
  Tensor losses_;                             // of batches that the host has not read yet: (1, 1, 1, read interval * losses)
  std::int64_t waiting_ = 0;                  // how many those are
  bool warned_ = false;                       // of gradients that are not finite
  bool can_resume_ = false;                   // a checkpoint of this run was written
  std::optional<std::int64_t> written_best_;  // the epoch that this run wrote as `best`: with nosave not each best one
  double best_fitness_ = 0, stopper_best_ = 0;
  RunSummary summary_;
  std::vector<double> mean_losses_, metrics_;  // of the last epoch
  bool is_best_ = false, validated_ = true;    // the last epoch
  std::array<double, 3> lr_{};
  std::vector<std::pair<std::int64_t, std::int64_t>>
      unfreezes_;  // epochs in which parameters were unfrozen, optimizer steps before
};

}  // namespace frost
