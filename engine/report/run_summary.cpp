#include "engine/report/run_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/base/atomic_file.h"
#include "engine/base/input_file.h"
#include "kernels/error.h"

namespace frost {
namespace {
constexpr const char* kFile = "summary.json";
}

double RunSummary::metric(const std::string& column) const {
  const auto it = std::find_if(best.begin(), best.end(), [&](const auto& entry) { return entry.first == column; });
  FROST_CHECK(it != best.end(), "this run has no ", column);
  return it->second;
}

std::string RunSummary::memory_table() const {
  std::string text;
  const auto line = [&](const char* name, std::int64_t bytes) {
    if (bytes > 0) text += fmt::format("{:<22}{:>10.1f} MB\n", name, static_cast<double>(bytes) / 1e6);
  };
  for (int role = 0; role < kRoleCount; ++role)
    line(name_of(static_cast<Role>(role)), peaks[static_cast<std::size_t>(role)]);
  line("together", peak_total);
  return text;
}

void RunSummary::note_peaks(const Ledger& ledger) {
  peak_total = std::max(peak_total, ledger.total().peak);
  for (int role = 0; role < kRoleCount; ++role) {
    std::int64_t& peak = peaks[static_cast<std::size_t>(role)];
    peak = std::max(peak, ledger.of(static_cast<Role>(role)).peak);
  }
}

void write_run_summary(const std::filesystem::path& folder, const RunSummary& s) {
  nlohmann::ordered_json peaks{{"total", s.peak_total}};
  for (int role = 0; role < kRoleCount; ++role)
    peaks[name_of(static_cast<Role>(role))] = s.peaks[static_cast<std::size_t>(role)];
  nlohmann::ordered_json best{{"epoch", s.best_epoch}};
  for (const auto& [column, value] : s.best) best[column] = value;
  const nlohmann::ordered_json json{{"epochs", s.epochs},
                                    {"steps", s.steps},
                                    {"batch_size", s.batch_size},
                                    {"train_seconds", s.train_seconds},
                                    {"seconds_per_epoch", s.seconds_per_epoch()},
                                    {"seconds_per_step", s.seconds_per_step()},
                                    {"parameters", s.parameters},
                                    {"trainable", s.trainable},
                                    {"peak_bytes", peaks},
                                    {"best", best},
                                    {"files", s.files},
                                    {"sparsity", s.sparsity}};
  const std::string text = json.dump(2) + "\n";
  write_file_atomically(folder / kFile, [&](FileSink& sink) { sink.write(text); });
}

RunSummary read_run_summary(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kFile;
  FROST_CHECK(std::filesystem::exists(std::filesystem::symlink_status(file)), file.string(),
              ": not found; is this the folder of a finished run?");
  const std::string text = read_text(file);
  RunSummary s;
  try {
    const auto json = nlohmann::ordered_json::parse(text);
    s.epochs = json.at("epochs");
    s.steps = json.at("steps");
    s.batch_size = json.at("batch_size");
    s.train_seconds = json.at("train_seconds");
    s.parameters = json.at("parameters");
    s.trainable = json.at("trainable");
    s.peak_total = json.at("peak_bytes").at("total");
    for (int role = 0; role < kRoleCount; ++role)
      s.peaks[static_cast<std::size_t>(role)] = json.at("peak_bytes").at(name_of(static_cast<Role>(role)));
    for (const auto& [column, value] : json.at("best").items())
      if (column == "epoch")
        s.best_epoch = value;
      else
        s.best.emplace_back(column, value);
    s.files = json.at("files").get<std::map<std::string, std::int64_t>>();
    s.sparsity = json.at("sparsity").get<std::map<std::string, double>>();
  } catch (const nlohmann::json::exception& e) {
    fail(file.string(), ": is not a run's summary: ", e.what());
  }
  return s;
}

void remove_run_summary(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::remove(folder / kFile, error);
  FROST_CHECK(!error, (folder / kFile).string(), ": cannot be removed: ", error.message());
}

}  // namespace frost
