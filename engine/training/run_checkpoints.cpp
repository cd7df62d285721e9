#include "engine/training/run_checkpoints.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/checkpoint/packed.h"
#include "engine/report/run_folder.h"

namespace frost {
namespace {
/// The checkpoint without what only training needs: the averaged weights. Without tensors where it is that already.
SafetensorsFile stripped(const std::filesystem::path& file) {
  SafetensorsFile saved = read_checkpoint(file);
  end_training(saved.metadata);
  return {saved.tensors.below("ema."), std::move(saved.metadata)};
}
}  // namespace

std::int64_t stripped_checkpoint_size(const std::filesystem::path& file) {
  const SafetensorsFile after = stripped(file);
  return checkpoint_size(after.tensors, after.metadata);
}

std::int64_t strip_checkpoint(const std::filesystem::path& file) {
  const SafetensorsFile after = stripped(file);
  if (!after.tensors.empty()) write_checkpoint(file, after.tensors, after.metadata);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
  fmt::print("Optimizer stripped from {}, {:.1f}MB\n", file.string(), static_cast<double>(bytes) / 1e6);
  return bytes;
}

std::filesystem::path newest_unfinished(const std::filesystem::path& root) {
  namespace fs = std::filesystem;
  std::vector<std::pair<fs::file_time_type, fs::path>> found;
  std::error_code error;
  fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (it->path().filename() == "last.safetensors" && it->is_regular_file(ignored))
      found.emplace_back(it->last_write_time(ignored), it->path());
  }
  std::sort(found.rbegin(), found.rend());
  const auto skip = [](const fs::path& file, const std::string& cause) {
    fmt::print("--resume skips {}: {}\n", file.string(), cause);
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
    } catch (const Error& e) {
      fmt::print("WARNING: --resume skips a checkpoint: {}\n", e.what());
      continue;
    }
    if (const std::string who = RunLock::holder(folder); !who.empty()) {
      skip(file, "in training by " + who);
    } else if (!fs::is_regular_file(folder / "opt.yaml", error)) {
      skip(file, "no opt.yaml in its run's folder");
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
    write_checkpoint(file, after.tensors, after.metadata);
  }
}

}  // namespace frost
