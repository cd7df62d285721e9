#include "models/run/train.h"

#include <fmt/format.h>

#include "engine/checkpoint/module_state.h"
#include "engine/report/results_csv.h"
#include "engine/report/text.h"
#include "engine/training/run_checkpoints.h"
#include "models/slim/prune.h"

namespace frost::run {
namespace {

/// "optimizer: SGD(lr=0.01) with parameter groups 57 weight(decay=0.0), 60 weight(decay=0.0005), 60 bias"
std::string optimizer_line(const ParameterArena& arena, OptimizerKind optimizer, double lr0, double decay) {
  const std::vector<std::size_t>& sizes = arena.group_sizes();
  return fmt::format("{}{}(lr={}) with parameter groups {} weight(decay=0.0), {} weight(decay={}), {} bias\n",
                     bold_blue("optimizer: "), name_of(optimizer), lr0, sizes[ParameterArena::kNorm],
                     sizes[ParameterArena::kWeight], decay, sizes[ParameterArena::kBias]);
}

/// Sets the loop to the checkpoint's state.
std::string resumed(TrainingLoop& loop, const std::filesystem::path& checkpoint, int epochs) {
  loop.resume(checkpoint);
  if (!loop.training_left())
    return fmt::format("Resuming {}: its epochs are trained, what follows them is done now\n", checkpoint.string());
  return fmt::format("Resuming training from {} from epoch {} to {} total epochs\n", checkpoint.string(), loop.start_epoch(),
                     epochs);
}

/// The time of an image, peak memory by role, and where masks are, the zeros of each convolution.
std::string costs(const RunSummary& summary, Module& model, std::int64_t images) {
  std::string text;
  if (summary.steps > 0)
    text = fmt::format("\n{:.1f} ms per image in training ({} batches of {}). Peak memory in training, by role:\n{}",
                       1000 * summary.seconds_per_epoch() / static_cast<double>(images), summary.steps, summary.batch_size,
                       summary.memory_table());
  return text + (summary.sparsity.empty() ? "" : slim::sparsity_table(slim::sparsity(model)));
}

/// Before a new run takes its folder, which ends the run there: throws Error where a value of the model is not finite.
void check_start(Module& model) {
  for (const auto& [name, tensor] : state_of(model))
    FROST_CHECK(tensor.all_finite(), name, " is not finite before the first epoch");
}

/// The same for paths that the run will write: throws Error where one cannot become a file of the run.
void check_places(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  for (const char* name : {"opt.yaml", "hyp.yaml", "results.csv", "summary.json", "weights/last.safetensors",
                           "weights/best.safetensors", "weights"}) {
    std::error_code error;
    const fs::file_status there = fs::status(folder / name, error);
    const bool weights = std::string_view(name) == "weights";
    const char* cause = weights                   ? "is a file, not a folder"
                        : fs::is_directory(there) ? "is a folder, not a file"
                                                  : "not a regular file";
    FROST_CHECK(!fs::exists(there) || (weights ? fs::is_directory(there) : fs::is_regular_file(there)),
                (folder / name).string(), ": ", cause, "; the run writes there");
  }
}

}  // namespace

std::unique_ptr<RunLock> take_folder(const std::filesystem::path& folder, bool fresh, Observer& observer) {
  auto lock = std::make_unique<RunLock>(folder, observer);
  if (fresh) {
    check_places(folder);
    end_unfinished(folder);
    // Before the new run's options are there: a folder never has these of one run and those of another.
    remove_run_summary(folder);
    ResultsCsv(folder / "results.csv", {}).keep(0);
  }
  return lock;
}

RunResult train(Device& device, Task& task, slim::Plan& plan, LoopOptions options, double decay, FrozenBn frozen_bn,
                RunPlace place, Observer& observer) {
  Model& model = task.model();
  const int epochs = static_cast<int>(options.schedule.epochs);
  // The arena takes over the parameters' memory: everything that copies the model's values must come later.
  ParameterArena arena(device, model, static_cast<float>(decay), true);
  observer.notice(optimizer_line(arena, options.optimizer, options.schedule.lr0, decay));
  ModelEma ema(device, model, arena, moving_statistics(model, frozen_bn));
  const std::unique_ptr<Model> ema_model = model.copy_architecture(device);

  if (place.folder.empty()) {
    check_start(model);
    place.folder = make_run_folder(place.project, place.name, place.exist_ok);
    place.lock = take_folder(place.folder, true, observer);
  }
  if (place.resume.empty() && place.save_options) place.save_options(place.folder);
  task.begin_run(place.folder);

  options.folder = place.folder;
  plan.steer(options, arena, [&] { task.unfrozen(); });
  TrainingLoop loop(device, model, *ema_model, arena, ema, task, std::move(options), observer);
  if (!place.resume.empty()) observer.notice(resumed(loop, place.resume, epochs));
  observer.notice(task.opening(place.folder, epochs));
  const std::int64_t earlier_steps = loop.summary().steps;  // before a resumption
  loop.run();
  task.check_faults();

  observer.notice(costs(loop.summary(), model, task.images()) + task.closing(loop.summary().steps - earlier_steps));
  task.judge(loop.result(), place.folder);
  task.check_faults();
  loop.finish();
  observer.notice(fmt::format("Results saved to {}\n", bold(place.folder.string())));
  return {place.folder, loop.result(), loop.summary()};
}

}  // namespace frost::run
