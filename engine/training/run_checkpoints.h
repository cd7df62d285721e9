#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "engine/checkpoint/safetensors.h"
#include "engine/report/observer.h"

/// The checkpoints of a run's folder, outside of a training: which one can be resumed, how they are stripped. loop.h has
/// what the training itself reads and writes. The rules: docs/resume.md.
namespace frost {

inline constexpr const char* kTrainingStateKey = "frost.training";  // metadata: the loop's state, as JSON
// What the run has cost so far: apart from the state, which is the same in every such run.
inline constexpr const char* kTrainingCostsKey = "frost.costs";
// The epoch whose weights a checkpoint holds. Unlike "epoch" it stays when the file is stripped: `best` is known by it.
inline constexpr const char* kOwnEpochKey = "frost.epoch";
// The run it belongs to (LoopOptions::run): an earlier run in the same folder has epochs of the same numbers.
inline constexpr const char* kRunKey = "frost.run";

/// The size in bytes that strip_checkpoint() would leave.
std::int64_t stripped_checkpoint_size(const std::filesystem::path& file);
/// Removes from a checkpoint what only training needs: the EMA weights stay. Without EMA weights all tensors stay. Says so,
/// and returns the size in bytes. Throws Error naming the file.
std::int64_t strip_checkpoint(const std::filesystem::path& file, Observer& observer);

/// The loop's state in a checkpoint, with its costs as "costs" where the file has them. Throws Error naming `file` where it
/// is no JSON or has impossible numbers.
nlohmann::json training_state(const Metadata& metadata, const std::filesystem::path& file);

/// The most recent `last` file of an interrupted run below a folder. Newer ones that cannot be resumed are named in notices
/// with the cause: not readable, finished (these in one line), trained by another process, or `check`, called with the
/// run's folder, throws Error. Throws Error where there is none.
std::filesystem::path newest_unfinished(const std::filesystem::path& root,
                                        const std::function<void(const std::filesystem::path& run_folder)>& check,
                                        Observer& observer);

/// Removes the training state from a checkpoint's metadata: it cannot be resumed any more.
void end_training(Metadata& metadata);

/// Ends the runs whose folder a new run takes: strips every checkpoint in weights/ that could be resumed, also an epochN
/// file of a finished run. Trained weights stay, but --resume must not mix them with the new run's options. A link becomes a
/// file, its target does not change. Throws Error where a file cannot be written.
void end_unfinished(const std::filesystem::path& run_folder);

}  // namespace frost
