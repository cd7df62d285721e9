#include "engine/training/run_checkpoints.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/checkpoint/sparse_checkpoint.h"
#include "engine/report/run_folder.h"

namespace frost {
namespace {
/// The checkpoint without what only training needs: the EMA weights, or all tensors where it has no averages.
SafetensorsFile stripped(const std::filesystem::path& file) {
  SafetensorsFile saved = read_checkpoint(file);
  end_training(saved.metadata);
  if (StateDict averages = saved.tensors.below("ema."); !averages.empty()) saved.tensors = std::move(averages);
  return saved;
}
}  // namespace

std::int64_t stripped_checkpoint_size(const std::filesystem::path& file) {
  const SafetensorsFile after = stripped(file);
  return checkpoint_size(after.tensors, after.metadata);
}

std::int64_t strip_checkpoint(const std::filesystem::path& file, Observer& observer) {
  const SafetensorsFile after = stripped(file);
  write_checkpoint(file, after.tensors, after.metadata);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
  observer.notice(fmt::format("Optimizer stripped from {}, {:.1f}MB\n", file.string(), static_cast<double>(bytes) / 1e6));
  return bytes;
}

nlohmann::json training_state(const Metadata& metadata, const std::filesystem::path& file) {
  constexpr double kMost = std::numeric_limits<int>::max();
  try {
    nlohmann::json state = nlohmann::json::parse(metadata.at(kTrainingStateKey));
    for (const char* key : {"best_fitness", "stopper_best"})
      FROST_CHECK(state.at(key).is_number(), file.string(), ": its training state cannot be right: ", key, " is ",
                  state[key].dump());
    FROST_CHECK(state.at("optimizer").is_string(), file.string(), ": its training state names no optimizer");
    const auto check = [&](const nlohmann::json& in, const char* key, double least, double most) {
      const nlohmann::json& value = in.at(key);
      FROST_CHECK(value.is_number_integer() && value.get<double>() >= least && value.get<double>() <= most, file.string(),
                  ": its training state cannot be right: ", key, " is ", value.dump(), ", not a whole number from ",
                  fmt::format("{:.0f} to {:.0f}", least, most));
      return value.get<double>();
    };
    const double epochs = state.contains("epochs") ? check(state, "epochs", 1, kMost) : kMost;
    const double epoch = check(state, "epoch", 0, epochs - 1);
    const double batches = (epoch + 1) * check(state, "batches_per_epoch", 1, kMost);
    check(state, "best_epoch", 0, epoch);
    if (state.contains("written_best")) check(state, "written_best", -1, epoch);
    if (state.contains("best")) check(state["best"], "epoch", 0, epoch);
    check(state, "last_step", -1, batches - 1);
    for (const char* count : {"steps", "ema_updates"}) check(state, count, 0, batches);
    for (const char* count : {"skipped", "good_steps"})
      if (state.contains(count)) check(state, count, 0, batches);
    FROST_CHECK(!state.contains("loss_scale") || (state["loss_scale"].is_number() && state["loss_scale"] > 0), file.string(),
                ": its training state cannot be right: loss_scale is ", state["loss_scale"].dump());
    for (const nlohmann::json& unfrozen : state.value("wakes", nlohmann::json::array())) {
      const nlohmann::json named{{"an unfrozen epoch", unfrozen.at(0)}, {"the steps before it", unfrozen.at(1)}};
      check(named, "an unfrozen epoch", 0, epoch), check(named, "the steps before it", 0, batches);
    }
    if (const auto costs = metadata.find(kTrainingCostsKey); costs != metadata.end()) {  // older files have none
      nlohmann::json& seen = state["costs"] = nlohmann::json::parse(costs->second);
      check(seen, "epochs", 0, epoch + 1), check(seen, "steps", 0, batches);
    }
    return state;
  } catch (const nlohmann::json::exception& e) {
    fail(file.string(), ": its training state cannot be read: ", e.what());
  }
}

std::filesystem::path newest_unfinished(const std::filesystem::path& root,
                                        const std::function<void(const std::filesystem::path& run_folder)>& check,
                                        Observer& observer) {
  namespace fs = std::filesystem;
  std::vector<std::pair<fs::file_time_type, fs::path>> found;
  std::error_code error;
  fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;  // no regular file is found too, and named below
    if (it->path().filename() == "last.safetensors") found.emplace_back(it->last_write_time(ignored), it->path());
  }
  std::sort(found.rbegin(), found.rend());
  const auto skip = [&](const fs::path& file, const std::string& cause) {
    observer.notice(fmt::format("--resume skips {}: {}\n", file.string(), cause));
  };
  std::vector<std::string> finished;
  fs::path newest;
  for (const auto& [time, file] : found) {
    const fs::path folder = file.parent_path().parent_path();
    try {
      if (!read_safetensors_metadata(file).contains(kTrainingStateKey)) {
        finished.push_back(file.string());
        continue;
      }
      const SafetensorsFile saved = read_checkpoint(file);
      training_state(saved.metadata, file);
      FROST_CHECK(!saved.tensors.below("optimizer.").empty(), file.string(), ": holds no optimizer state");
      check(folder);
    } catch (const Error& e) {
      observer.notice(fmt::format("WARNING: --resume skips a checkpoint: {}\n", e.what()));
      continue;
    }
    if (const std::string who = RunLock::holder(folder); !who.empty()) {
      skip(file, "in training by " + who);
    } else {
      newest = file;
      break;
    }
  }
  if (!finished.empty()) skip(fmt::format("{}", fmt::join(finished, ", ")), "training is finished");
  FROST_CHECK(!newest.empty(), "--resume: no unfinished run below ", root.string());
  return newest;
}

void end_training(Metadata& metadata) {
  metadata.erase(kTrainingStateKey);
  metadata.erase(kTrainingCostsKey);
  metadata["epoch"] = "-1";
}

void end_unfinished(const std::filesystem::path& run_folder) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(run_folder / "weights", error), end; !error && it != end; it.increment(error))
    if (std::error_code ignored; it->path().extension() == ".safetensors" && it->is_regular_file(ignored))
      files.push_back(it->path());
  for (const fs::path& file : files) {
    SafetensorsFile after;
    try {
      if (!read_safetensors_metadata(file).contains(kTrainingStateKey)) continue;
      after = stripped(file);
    } catch (const Error&) {
      continue;  // what cannot be read cannot be resumed either
    }
    const fs::path target = fs::read_symlink(file, error);  // what a link points to may be another run's: it stays
    if (!target.empty()) fs::remove(file);
    try {
      write_checkpoint(file, after.tensors, after.metadata);
    } catch (const Error&) {
      if (!target.empty()) fs::create_symlink(target, file);
      throw;
    }
  }
}

}  // namespace frost
