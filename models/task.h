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

/// Options of a task's step that are the same for every family.
struct StepPlan {
  DType compute = DType::f32;
  FrozenBn frozen_bn = FrozenBn::running;
  bool recompute = true;   // rematerialize activations in backward instead of keeping them
  bool cuda_graph = true;  // capture steps and validation where the device can
  bool strict = false;     // a corrupt image ends the run instead of being left out
  float label_smoothing = 0;
  std::uint64_t seed = 0;
};

/// Handles pictures that cannot be decoded: each is reported once, and with --strict the run ends. A fault found in
/// validation ends the run only after the epoch's checkpoint has been written.
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

/// With --cache-features, the step that a batch of noise simulates: one of the first epoch, or one of a later epoch.
enum class FeatureCache : std::uint8_t { off, filling, filled };

/// A batch of noise.
struct NoiseOptions {
  int batch_size = 16, imgsz = 640;
  FeatureCache features = FeatureCache::off;  // where nothing is frozen from layer 0 on: off
};

/// A training: a model, its data, its step and its validation. Batches come from files or are noise. The device may be a
/// meta device, so explain and --dry-run run the same class as a training.
class Task : public TrainingTask {
 public:
  virtual Model& model() = 0;
  virtual std::int64_t images() const = 0;  // of an epoch

  /// Called when a training begins. The family's plots and files go into `folder`.
  virtual void begin_run(const std::filesystem::path& folder) = 0;
  /// "Image sizes 640 train, 640 val ...", before the first epoch.
  virtual std::string opening(const std::filesystem::path& folder, int epochs) const = 0;
  /// Called after parameters were unfrozen: captured steps and cached features are no longer valid.
  virtual void unfrozen() = 0;
  /// After the last validations: with --strict, throws Error if one of them met a picture that cannot be decoded.
  virtual void check_faults() = 0;
  /// The message after the last epoch, `steps` batches later; "": none.
  virtual std::string closing(std::int64_t) const { return ""; }
  /// Validates the finished run's checkpoint, class by class.
  virtual void judge(const std::filesystem::path& weights, const std::filesystem::path& folder) = 0;

  /// Bytes that are kept of each image for later epochs (--cache-features), in host memory or on disk.
  virtual std::int64_t kept_each() const { return 0; }
};

/// Makes a task whose data is noise, for a model and on the model's device.
using MakeTask = std::function<std::unique_ptr<Task>(Device&, Model&)>;

/// The pixels of a batch of noise, the same in each run; nothing for a meta device, which reads none.
std::vector<std::uint8_t> noise(const Backend& backend, std::size_t bytes);

}  // namespace frost
