#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "engine/report/observer.h"
#include "engine/report/run_folder.h"
#include "engine/tensor/run_device.h"
#include "engine/training/loop.h"
#include "models/slim/training_plan.h"
#include "models/task.h"

namespace frost::run {

/// Where a run writes: a new folder, or that of a run that goes on.
struct RunPlace {
  std::filesystem::path project = "runs/train";
  std::string name = "exp";
  bool exist_ok = false;
  std::filesystem::path folder{};   // of the run that goes on; empty: a new one is made
  std::filesystem::path resume{};   // its checkpoint
  std::unique_ptr<RunLock> lock{};  // on its folder
  /// Writes the options of a new run into its folder, so that it can be resumed.
  std::function<void(const std::filesystem::path& folder)> save_options{};
};

/// What a training came to.
struct RunResult {
  std::filesystem::path folder, weights;  // of the best epoch, or the last where none was the best
  RunSummary summary;
};

/// Makes a run's folder this process's own: RunLock. `fresh`: it also ends whatever could be resumed there, epochN files of
/// a finished run too (end_unfinished), and removes the earlier run's rows and summary.
std::unique_ptr<RunLock> take_folder(const std::filesystem::path& folder, bool fresh, Observer& observer);

/// Trains the task's model, of whichever family: freezes and unfreezes, prunes, keeps an average, validates, writes
/// checkpoints, resumes; at last judges the result. `plan` has frozen the model already. Throws Error: one line with the
/// cause.
///
/// The model's parameters move into an arena and stay there as long as the model exists: train a model once. `decay`: of
/// the weights.
RunResult train(Device& device, Task& task, slim::Plan& plan, LoopOptions options, double decay, FrozenBn frozen_bn,
                RunPlace place, Observer& observer);

}  // namespace frost::run
