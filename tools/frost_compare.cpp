#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/base/atomic_file.h"
#include "engine/report/comparison.h"
#include "tools/main_guard.h"

int main(int argc, char** argv) {
  return frost::run_tool("frost-compare", argc, argv, [](CLI::App& app, int count, char** arguments) {
    std::vector<std::string> folders, labels;
    std::string title = "Runs compared";
    std::filesystem::path html, reference;
    frost::TableOptions table;
    app.description("Puts finished training runs side by side: time, memory by role, accuracy, file size.");
    app.add_option("runs", folders, "folders of finished runs (runs/train/exp runs/train/exp2 ...)")->required();
    app.add_option("--labels", labels, "a name for each run; default: the folders' names");
    app.add_option("--title", title, "heading of the page")->capture_default_str();
    app.add_option("--html", html, "also write the table and the curves to this page");
    app.add_flag("--markdown", table.markdown, "print the table as Markdown");
    app.add_flag("--roles", table.roles, "a column for the peak of each role's memory");
    app.add_option("--reference", reference,
                   "JSON with the accuracies of others' runs: rows below the table's, mean (range) of several seeds");
    frost::parse_arguments(app, count, arguments);

    if (!labels.empty() && labels.size() != folders.size())
      throw CLI::ValidationError("--labels", "one name for each run, please");
    std::vector<frost::ComparedRun> runs;
    for (std::size_t i = 0; i < folders.size(); ++i) {
      std::filesystem::path folder = folders[i];
      if (!folder.has_filename()) folder = folder.parent_path();  // "runs/exp/"
      runs.push_back(frost::read_compared_run(labels.empty() ? folder.filename().string() : labels[i], folder));
    }
    if (!reference.empty()) table.references = frost::read_reference_runs(reference);
    std::fputs(frost::comparison_table(runs, table).c_str(), stdout);
    if (!html.empty()) {
      const std::string page = frost::comparison_page(title, runs, table);
      frost::write_file_atomically(html, [&](frost::FileSink& sink) { sink.write(page); });
      std::printf("Page: %s\n", html.c_str());
    }
    return 0;
  });
}
