#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "kernels/cuda/convolution/conv_graph.h"

/// The fastest engine of each convolution, stored on disk so that the next run need not time them.
namespace frost::cuda {

/// $XDG_CACHE_HOME/frost/plans, else ~/.cache/frost/plans, else a folder for temporary files.
std::filesystem::path plan_folder();

class PlanStore {
 public:
  struct Entry {
    EngineChoice choice;
    double microseconds = 0;  // as measured
    auto operator<=>(const Entry&) const = default;
  };

  /// Choices hold for one version of cuDNN (`version`: cudnnGetVersion()) and one kind of device: each pair has a file of
  /// its own in `folder`. A file that is cut off or is not ours is ignored, with one line on stderr. Does not throw.
  PlanStore(const std::filesystem::path& folder, std::size_t version, const std::string& device);
  /// Saves, where something is new.
  ~PlanStore();
  PlanStore(const PlanStore&) = delete;
  PlanStore& operator=(const PlanStore&) = delete;

  std::optional<Entry> find(const ConvKey& key) const;
  void put(const ConvKey& key, const Entry& entry);
  /// A plan with the kernel that cuDNN compiled for it (ConvPlan::serialized), one file to each. What was cut off or changed
  /// on disk is not returned.
  std::optional<std::string> compiled(const ConvKey& key) const;
  void put_compiled(const ConvKey& key, const std::string& plan) noexcept;

  /// Writes a new file and puts it in the old one's place; what other processes have added meanwhile is kept. If the folder
  /// cannot be written, there is only one line on stderr.
  void save() noexcept;

  std::size_t size() const { return entries_.size(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::map<std::string, Entry> read(bool complain) const;
  std::filesystem::path compiled_path(const ConvKey& key) const;

  std::filesystem::path path_;
  std::string header_;
  std::map<std::string, Entry> entries_, fresh_;
};

}  // namespace frost::cuda
