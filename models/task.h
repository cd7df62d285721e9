#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/report/observer.h"
#include "engine/training/loop.h"
#include "models/model.h"

namespace frost {

/// What a task's step depends on besides the model and the batch: the same for every family.
struct StepPlan {
  DType compute = DType::f32;
  FrozenBn frozen_bn = FrozenBn::running;
  bool recompute = true;   // rematerialize activations in backward instead of keeping them
  bool cuda_graph = true;  // capture steps and validation where the device can
  bool strict = false;     // a corrupt image ends the run instead of being left out
  float label_smoothing = 0;
  std::uint64_t seed = 0;
};

/// What a run does about pictures that cannot be decoded: it says so once for each, and with --strict it ends. A fault of
/// validation ends it only after the epoch's checkpoint has been written.
class FaultReports {
 public:
  FaultReports(bool strict, Observer& observer) : strict_(strict), observer_(observer) {}
  void of_training(const std::vector<std::string>& faults) const;
  void of_validation(const std::vector<std::string>& faults);
  /// At the beginning of an epoch, after the last, and after the validation of the result.
  void check() const;

 private:
  bool strict_;
  Observer& observer_;
  std::string first_;  // of validation
};

/// Which step of a run with --cache-features a batch of noise stands for: one of the first epoch, or one of a later epoch.
enum class FeatureCache : std::uint8_t { off, filling, filled };

/// A batch of noise.
struct NoiseOptions {
  int batch_size = 16, imgsz = 640;
  FeatureCache features = FeatureCache::off;  // where nothing is frozen from layer 0 on: off
};

/// What is trained: a model, its data, its step and its validation. Its batches come from files or are noise, its device may
/// be a meta device: explain and --dry-run run the same class as a training does.
class Task : public TrainingTask {
 public:
  virtual Model& model() = 0;
  virtual std::int64_t images() const = 0;  // of an epoch

  /// A training begins: plots and files of the family go into `folder`.
  virtual void begin_run(const std::filesystem::path& folder) = 0;
  /// "Image sizes 640 train, 640 val ...", before the first epoch.
  virtual std::string opening(const std::filesystem::path& folder, int epochs) const = 0;
  /// Parameters have been unfrozen: captured steps and kept features are void.
  virtual void unfrozen() = 0;
  /// After the last validations: says what they could not decode, which --strict does not let pass.
  virtual void check_faults() = 0;
  /// What there is to say after the last epoch, `steps` batches later; "": nothing.
  virtual std::string closing(std::int64_t) const { return ""; }
  /// Judges the finished run's checkpoint, class by class.
  virtual void judge(const std::filesystem::path& weights, const std::filesystem::path& folder) = 0;

  /// Bytes that are kept of each image for later epochs (--cache-features), in host memory or on disk.
  virtual std::int64_t kept_each() const { return 0; }
};

/// Makes a task for a model on the device that the model is on, with noise as its data.
using MakeTask = std::function<std::unique_ptr<Task>(Device&, Model&)>;

/// The pixels of a batch of noise, the same in each run; nothing for a meta device, which reads none.
std::vector<std::uint8_t> noise(const Backend& backend, std::size_t bytes);

}  // namespace frost
