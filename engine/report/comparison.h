#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "engine/report/run_summary.h"

namespace frost {

/// One run of a comparison: what summary.json and results.csv of its folder say.
struct ComparedRun {
  std::string label;
  RunSummary summary;
  std::vector<std::string> columns;       // of results.csv
  std::vector<std::vector<double>> rows;  // one an epoch
};

/// Reads a finished run. Throws Error naming the file.
ComparedRun read_compared_run(const std::string& label, const std::filesystem::path& folder);

/// One row a run: trainable share, time, memory by role, the metrics that all runs have, file size. Plain text, or Markdown.
std::string comparison_table(const std::vector<ComparedRun>& runs, bool markdown);

/// The same table and the metrics over the epochs, as one HTML page that needs nothing else.
std::string comparison_page(const std::string& title, const std::vector<ComparedRun>& runs);

}  // namespace frost
