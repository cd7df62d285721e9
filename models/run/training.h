#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/report/run_folder.h"
#include "engine/training/loop.h"

/// What every family's trainer says and does around its loop.
namespace frost::run {

/// "optimizer: SGD(lr=0.01) with parameter groups 57 weight(decay=0.0), 60 weight(decay=0.0005), 60 bias"
std::string optimizer_line(const ParameterArena& arena, OptimizerKind optimizer, double lr0, double decay);

/// Before a new run takes its folder, which ends the run there: throws Error where a value of the model is not finite.
void check_start(Module& model);

/// Makes the run's folder this process's own: RunLock. `fresh`: it also ends whatever could be resumed there, epochN files
/// of a finished run too (end_unfinished), and removes the earlier run's rows and summary.
std::unique_ptr<RunLock> take_folder(const std::filesystem::path& folder, bool fresh);

/// Sets the loop where the checkpoint left it, and says so.
void go_on(TrainingLoop& loop, const std::string& checkpoint, int epochs);

/// After the loop: the time of an image, peak memory by role, and where masks are, the zeros of each convolution. `images`:
/// of an epoch.
void print_costs(const TrainingLoop& loop, Module& model, std::int64_t images);

/// What a run does about pictures that cannot be decoded: it says so once for each, and with --strict it ends. A fault of
/// validation ends it only after the epoch's checkpoint has been written.
class FaultReports {
 public:
  explicit FaultReports(bool strict) : strict_(strict) {}
  void of_training(const std::vector<std::string>& faults) const;
  void of_validation(const std::vector<std::string>& faults);
  /// At the beginning of an epoch, after the last, and after the validation of the result.
  void check() const;

 private:
  bool strict_;
  std::string first_;  // of validation
};

}  // namespace frost::run
