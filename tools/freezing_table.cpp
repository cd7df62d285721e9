#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/report/run_summary.h"
#include "kernels/error.h"
#include "tools/main_guard.h"

// The table of docs/freezing.md from the folders of its runs (make freezing-table).
namespace {
using frost::Role;
using frost::RunSummary;

struct Row {
  std::string freeze, frozen_bn;
};

/// YOLOv5's best mAP50 and mAP50-95 for the same command: "0.874, 0.519"; its norms always use batch statistics.
std::string reference(const nlohmann::json& json, const Row& row) {
  if (json.is_null() || row.frozen_bn == "running") return "";
  const auto& run = json.at("runs").at("freeze " + row.freeze);
  return fmt::format("{:.3f}, {:.3f}", run.at("best mAP50").get<double>(), run.at("best mAP50-95").get<double>());
}

double megabytes(const RunSummary& s, std::initializer_list<Role> roles) {
  double bytes = 0;
  for (const Role role : roles) bytes += static_cast<double>(s.peaks[static_cast<std::size_t>(role)]);
  return bytes / 1e6;
}

int run(CLI::App& app, int argc, char** argv) {
  std::string folder, reference_file;
  app.description("Print the table of docs/freezing.md from finished runs: FOLDER/freeze0, FOLDER/freeze10-running, ...");
  app.add_option("folder", folder, "where the runs are")->required();
  app.add_option("--reference", reference_file, "YOLOv5's numbers: bccd_reference.json");
  app.parse(argc, argv);

  nlohmann::json json;
  if (!reference_file.empty()) {
    std::ifstream in(reference_file);
    json = nlohmann::json::parse(in, nullptr, false);
    FROST_CHECK(in && json.contains("runs"), reference_file, ": is not the reference's JSON");
  }
  fmt::print(
      "| `--freeze` | `--frozen-bn` | ms for each step | of unfrozen | parameters | gradients | optimizer, average | saved "
      "activations | of unfrozen | all together | best mAP50 | best mAP50-95 | YOLOv5 v7.0 |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  double step = 0, saved = 0;
  for (const Row& row : {Row{"0", ""}, {"10", "running"}, {"10", "batch"}, {"24", "running"}, {"24", "batch"}}) {
    const RunSummary s =
        frost::read_run_summary(folder + "/freeze" + row.freeze + (row.frozen_bn.empty() ? "" : "-" + row.frozen_bn));
    const double now_saved = megabytes(s, {Role::saved_activation});
    if (step == 0) step = s.seconds_per_step(), saved = now_saved;
    fmt::print(
        "| {} | {} | {:.0f} | {:.0f} % | {:.1f} MB | {:.1f} MB | {:.1f} MB | {:.1f} MB | {:.0f} % | {:.0f} MB | {:.3f} | "
        "{:.3f} | {} |\n",
        row.freeze, row.frozen_bn, 1000 * s.seconds_per_step(), 100 * s.seconds_per_step() / step,
        megabytes(s, {Role::parameter, Role::buffer}), megabytes(s, {Role::gradient}), megabytes(s, {Role::optimizer_state}),
        now_saved, 100 * now_saved / saved, static_cast<double>(s.peak_total) / 1e6, s.metric("metrics/mAP_0.5"),
        s.metric("metrics/mAP_0.5:0.95"), reference(json, row));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("freezing-table", argc, argv, run); }
