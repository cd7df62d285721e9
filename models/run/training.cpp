#include "models/run/training.h"

#include <fmt/format.h>

#include <cstdio>

#include "engine/checkpoint/module_state.h"
#include "engine/report/results_csv.h"
#include "engine/report/run_summary.h"
#include "engine/report/text.h"
#include "engine/training/run_checkpoints.h"
#include "kernels/error.h"
#include "models/slim/prune.h"

namespace frost::run {

std::string optimizer_line(const ParameterArena& arena, OptimizerKind optimizer, double lr0, double decay) {
  const std::vector<std::size_t>& sizes = arena.group_sizes();
  return fmt::format("{}{}(lr={}) with parameter groups {} weight(decay=0.0), {} weight(decay={}), {} bias",
                     bold_blue("optimizer: "), name_of(optimizer), lr0, sizes[ParameterArena::kNorm],
                     sizes[ParameterArena::kWeight], decay, sizes[ParameterArena::kBias]);
}

void check_start(Module& model) {
  for (const auto& [name, tensor] : state_of(model))
    FROST_CHECK(tensor.all_finite(), name, " is not finite before the first epoch");
}

std::unique_ptr<RunLock> take_folder(const std::filesystem::path& folder, bool fresh) {
  auto lock = std::make_unique<RunLock>(folder);
  if (fresh) {
    end_unfinished(folder);
    // Before the new run's options are there: a folder never has these of one run and those of another.
    remove_run_summary(folder);
    ResultsCsv(folder / "results.csv", {}).keep(0);
  }
  return lock;
}

void go_on(TrainingLoop& loop, const std::string& checkpoint, int epochs) {
  loop.resume(checkpoint);
  if (loop.training_left())
    fmt::print("Resuming training from {} from epoch {} to {} total epochs\n", checkpoint, loop.start_epoch(), epochs);
  else
    fmt::print("Resuming {}: its epochs are trained, what follows them is done now\n", checkpoint);
}

void print_costs(const TrainingLoop& loop, Module& model, std::int64_t images) {
  const RunSummary& summary = loop.summary();
  if (summary.steps > 0)
    fmt::print("\n{:.1f} ms per image in training ({} batches of {}). Peak memory in training, by role:\n{}",
               1000 * summary.seconds_per_epoch() / static_cast<double>(images), summary.steps, summary.batch_size,
               summary.memory_table());
  if (!summary.sparsity.empty()) fmt::print("{}", slim::sparsity_table(slim::sparsity(model)));
}

void FaultReports::of_training(const std::vector<std::string>& faults) const {
  for (const std::string& fault : faults) {
    if (strict_) fail(fault);
    fmt::print(stderr, "\nWARNING ⚠️ {}\n", fault);
  }
}

void FaultReports::of_validation(const std::vector<std::string>& faults) {
  for (const std::string& fault : faults) {
    if (first_.empty()) first_ = fault;
    fmt::print(stderr, "WARNING ⚠️ {}\n", fault);
  }
}

void FaultReports::check() const {
  if (strict_ && !first_.empty()) fail(first_);
}

}  // namespace frost::run
