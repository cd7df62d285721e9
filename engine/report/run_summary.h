#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/tensor/ledger.h"

namespace frost {

/// What a finished run cost and what it reached, for programs that compare runs: summary.json in the run's folder.
struct RunSummary {
  std::int64_t epochs = 0, steps = 0;  // trained; what came before a resumption counts, as in seconds and peaks
  std::int64_t batch_size = 0;
  double train_seconds = 0;  // in train epochs, without validation
  std::int64_t parameters = 0, trainable = 0;
  std::int64_t peak_total = 0;                         // bytes, while training
  std::array<std::int64_t, kRoleCount> peaks{};        // the same for each role
  std::int64_t best_epoch = 0;                         // the one with the best fitness
  std::vector<std::pair<std::string, double>> best{};  // its results.csv metrics
  std::map<std::string, std::int64_t> files{};         // bytes of the checkpoints
  std::map<std::string, double> sparsity{};            // share of zeros in each masked parameter, and in all

  double seconds_per_epoch() const { return epochs ? train_seconds / static_cast<double>(epochs) : 0; }
  double seconds_per_step() const { return steps ? train_seconds / static_cast<double>(steps) : 0; }
  /// The best epoch's value of a results.csv column ("metrics/mAP_0.5"). Throws Error where there is none.
  double metric(const std::string& column) const;
  /// One line for each role: "gradient  14.0 MB".
  std::string memory_table() const;
  /// Takes over what the ledger saw since its peaks were reset, where it is more.
  void note_peaks(const Ledger& ledger);
};

/// Writes, or reads, `folder`/summary.json. Throws Error naming the file.
void write_run_summary(const std::filesystem::path& folder, const RunSummary& summary);
RunSummary read_run_summary(const std::filesystem::path& folder);
/// Removes it where there is one: the folder's run goes on, or begins anew.
void remove_run_summary(const std::filesystem::path& folder);

}  // namespace frost
