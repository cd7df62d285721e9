#pragma once
#include <filesystem>
#include <map>
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

/// What others reached on the same data. Of their runs only the accuracy is known.
struct ReferenceRun {
  std::string label;
  std::map<std::string, std::vector<double>> best;  // by the table's headings, "mAP50": a value for each seed
};

/// Reads {"what": "NAME, ...", "runs": {RUN: {"best mAP50": 0.87, ...}}}; labels are "NAME: RUN". More seeds of one of
/// those runs may be in {"more seeds": {"what": "RUN, ...", "seed 1": {"best mAP50": 0.83, ...}, ...}}: values beside the
/// first run's. A seed with a remark ("seed 2, first 25 epochs") is not the same run and becomes one of its own. Throws
/// Error naming the file.
std::vector<ReferenceRun> read_reference_runs(const std::filesystem::path& file);

struct TableOptions {
  bool markdown = false;
  bool roles = false;                      // a column for each role's peak bytes, not just for what freezing saves
  std::vector<ReferenceRun> references{};  // rows below the runs
};
/// One row a run: trainable share, time, memory by role, the metrics that all runs have, file size. Plain text, or Markdown.
std::string comparison_table(const std::vector<ComparedRun>& runs, const TableOptions& options = {});

/// The same table and the metrics over the epochs, as one HTML page that needs nothing else.
std::string comparison_page(const std::string& title, const std::vector<ComparedRun>& runs,
                            const TableOptions& options = {});

}  // namespace frost
