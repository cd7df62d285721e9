#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "engine/report/comparison.h"
#include "engine/report/progress.h"
#include "engine/report/results_csv.h"
#include "engine/report/run_folder.h"
#include "engine/report/run_summary.h"
#include "kernels/error.h"

using namespace frost;
namespace fs = std::filesystem;

namespace {

struct Folder {  // a fresh folder for one test
  fs::path path = fs::temp_directory_path() / ("frost_report_test_" + std::to_string(getpid()));
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
};
std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("report: results.csv grows row by row and survives a crash") {
  const Folder folder;
  const auto file = folder.path / "results.csv";
  const std::string header = "               epoch,metrics/mAP_0.5:0.95\n";
  {
    ResultsCsv csv(file, {"epoch", "metrics/mAP_0.5:0.95"});
    CHECK(!fs::exists(file));
    csv.append(std::vector<double>{0, 0.123456789});
  }
  CHECK(read(file) == header + "                   0,             0.12346\n");
  std::ofstream(file, std::ios::app) << "                   1,    0.3";  // a crash in the middle of a row
  ResultsCsv resumed(file, {"epoch", "metrics/mAP_0.5:0.95"});
  resumed.append(std::vector<double>{1, std::nan("")});
  CHECK(read(file) ==
        header + "                   0,             0.12346\n" + "                   1,                 nan\n");
  CHECK_THROWS_AS(resumed.append(std::vector<double>{1}), Error);
  std::ofstream(file, std::ios::trunc) << "half a hea";
  ResultsCsv fresh(file, {"epoch", "metrics/mAP_0.5:0.95"});
  fresh.append(std::vector<double>{2, 1e-7});
  CHECK(read(file) == header + "                   2,               1e-07\n");
  ResultsCsv nowhere(folder.path / "no" / "results.csv", {"epoch"});
  CHECK_THROWS_AS(nowhere.append(std::vector<double>{1}), Error);
}

TEST_CASE("report: run folders count up") {
  const Folder folder;
  const auto project = folder.path / "runs" / "train";
  CHECK(make_run_folder(project, "exp") == project / "exp");
  CHECK(make_run_folder(project, "exp") == project / "exp2");
  CHECK(make_run_folder(project, "exp") == project / "exp3");
  CHECK(make_run_folder(project, "exp", true) == project / "exp");
  CHECK(make_run_folder(project, "fresh", true) == project / "fresh");
  fs::remove(project / "exp2");
  CHECK(make_run_folder(project, "exp") == project / "exp2");
  CHECK(fs::is_directory(project / "exp2"));
  CHECK(make_run_folder(project, "a/b") == project / "a/b");
  std::ofstream(project / "file") << "x";
  CHECK(make_run_folder(project, "file") == project / "file2");
  CHECK_THROWS_AS(make_run_folder(project, "file", true), Error);
  CHECK_THROWS_AS(make_run_folder(project / "file", "exp"), Error);
  CHECK_THROWS_WITH_AS(make_run_folder("/proc", "exp"), doctest::Contains("/proc/exp: cannot create"), Error);
}

TEST_CASE("report: progress lines") {
  CHECK(progress_line("mAP50-95", 1, 1, 0.4) == "mAP50-95: 100%|██████████| 1/1 00:00");
  CHECK(progress_line("x", 0, 8, 61) == "x:   0%|          | 0/8 01:01");
  CHECK(progress_line("x", 1, 2, 3661) == "x:  50%|█████     | 1/2 1:01:01");
  CHECK(progress_line("x", 3, 8, 0) == "x:  38%|███▊      | 3/8 00:00");
  CHECK(progress_line("x", 0, 0, 0) == "x: 100%|██████████| 0/0 00:00");
}

TEST_CASE("report: without a terminal only the finished line appears") {
  const Folder folder;
  const auto path = folder.path / "log";
  std::FILE* file = std::fopen(path.c_str(), "w");
  {
    ProgressBar silent("silent", 1, file, false);
    silent.advance();
    silent.finish();
    ProgressBar bar("a", 3, file);
    bar.advance();
    bar.label("b");
    bar.advance(2);
    bar.finish();
    bar.finish();
    ProgressBar abandoned("c", 3, file);
    abandoned.advance();
  }
  std::fclose(file);
  CHECK(read(path) == "b: 100%|██████████| 3/3 00:00\n");
}

TEST_CASE("a run's summary comes back as it was written; another file is refused by name") {
  const Folder folder;
  RunSummary summary{.epochs = 3, .steps = 21, .batch_size = 16, .train_seconds = 4.25, .parameters = 100, .trainable = 40};
  Ledger ledger;
  ledger.add(Role::gradient, 0, 160);
  ledger.add(Role::saved_activation, 0, 1000);
  ledger.remove(Role::saved_activation, 0, 1000);
  summary.note_peaks(ledger);
  ledger.reset_peaks();
  summary.note_peaks(ledger);  // less than before changes nothing
  summary.best_epoch = 2;
  summary.best = {{"metrics/mAP_0.5", 0.875}, {"metrics/mAP_0.5:0.95", 0.5}};
  summary.files["best.safetensors"] = 7149468;
  write_run_summary(folder.path, summary);

  const RunSummary back = read_run_summary(folder.path);
  CHECK(back.epochs == 3);
  CHECK(back.steps == 21);
  CHECK(back.batch_size == 16);
  CHECK(back.train_seconds == 4.25);
  CHECK(back.seconds_per_step() == doctest::Approx(4.25 / 21));
  CHECK(back.trainable == 40);
  CHECK(back.parameters == 100);
  CHECK(back.peak_total == 1160);
  CHECK(back.peaks == summary.peaks);
  CHECK(back.peaks[static_cast<std::size_t>(Role::saved_activation)] == 1000);
  CHECK(back.best_epoch == 2);
  CHECK(back.metric("metrics/mAP_0.5") == 0.875);
  CHECK_THROWS_WITH_AS(back.metric("nothing"), "this run has no nothing", Error);
  CHECK(back.files == summary.files);
  CHECK(back.memory_table().find("saved activation") != std::string::npos);

  std::ofstream(folder.path / "summary.json") << R"({"epochs": 3})";
  CHECK_THROWS_WITH_AS(read_run_summary(folder.path), doctest::Contains("summary.json: is not a run's summary"), Error);
  CHECK_THROWS_WITH_AS(read_run_summary(folder.path / "none"), doctest::Contains("summary.json: not found"), Error);
}

TEST_CASE("runs side by side: a table, as Markdown, as a page") {
  const Folder folder;
  for (const char* name : {"all", "head"}) {
    const bool all = std::string(name) == "all";
    fs::create_directories(folder.path / name);
    RunSummary summary{.epochs = 2,
                       .steps = 8,
                       .batch_size = 4,
                       .train_seconds = all ? 4.0 : 1.0,
                       .parameters = 200,
                       .trainable = all ? 200 : 50};
    summary.peak_total = all ? 8000000 : 2500000;
    summary.peaks[static_cast<std::size_t>(Role::saved_activation)] = all ? 5000000 : 1000000;
    summary.best = {{"metrics/precision", 0.5}, {"metrics/mAP_0.5", all ? 0.75 : 0.5}, {"val/box_loss", 0.1}};
    if (all) summary.best.emplace_back("metrics/only_here", 1.0);
    summary.files = {{"best.safetensors", 7100000}, {"last.safetensors", 1}};
    write_run_summary(folder.path / name, summary);
    ResultsCsv csv(folder.path / name / "results.csv", {"epoch", "metrics/mAP_0.5"});
    csv.append(std::vector<double>{0, 0.25});
    csv.append(std::vector<double>{1, 0.5});
  }
  const std::vector<ComparedRun> runs{read_compared_run("all <layers>", folder.path / "all"),
                                      read_compared_run("head", folder.path / "head")};
  CHECK(runs[0].rows == std::vector<std::vector<double>>{{0, 0.25}, {1, 0.5}});

  CHECK(comparison_table(runs) ==
        "run           epochs  trainable  s/epoch  ms/step  peak MB  saved act. MB  gradients MB  optimizer MB  mAP50  file "
        "MB\n"
        "all <layers>       2    100.0 %     2.00    500.0      8.0            5.0           0.0           0.0  0.750      "
        "7.1\n"
        "head               2     25.0 %     0.50    125.0      2.5            1.0           0.0           0.0  0.500      "
        "7.1\n");
  const std::string markdown = comparison_table(runs, {.markdown = true});
  CHECK(markdown.starts_with("| run          | epochs | trainable |"));
  CHECK(markdown.find("\n|--------------|-------:|") != std::string::npos);
  CHECK(markdown.find("\n| head         |      2 |    25.0 % |") != std::string::npos);

  const std::string roles = comparison_table({runs[1]}, {.roles = true});
  CHECK(roles.find("optimizer MB  parameters MB  buffers MB  transient act. MB  workspace MB  input MB  mAP50") !=
        std::string::npos);

  const fs::path reference = folder.path / "reference.json";
  std::ofstream(reference) << R"({"what": "Theirs, 3 epochs", "runs": {"all": {"best_epoch": 2, "best mAP50": 0.8125}}})";
  const std::string beside = comparison_table({runs[1]}, {.references = read_reference_runs(reference)});
  CHECK(beside ==
        "run          epochs  trainable  s/epoch  ms/step  peak MB  saved act. MB  gradients MB  optimizer MB  mAP50  file "
        "MB\n"
        "head              2     25.0 %     0.50    125.0      2.5            1.0           0.0           0.0  0.500      "
        "7.1\n"
        "Theirs: all       -          -        -        -        -              -             -             -  0.812        "
        "-\n");
  const std::string full = comparison_page("A", runs, {.roles = true, .references = read_reference_runs(reference)});
  CHECK(full.find("<th>workspace MB</th><th>input MB</th><th>mAP50</th>") != std::string::npos);
  CHECK(full.find("<tr><td>Theirs: all</td><td>-</td>") != std::string::npos);  // it has no curve and no dot
  CHECK(full.find("<td>0.812</td><td>-</td></tr>") != std::string::npos);
  std::ofstream(reference)
      << R"({"what": "Theirs, 3 epochs", "runs": {"all": {"best mAP50": 0.8}, "head": {"best mAP50": 0.5}},
    "more seeds": {"what": "all, elsewhere", "seed 1": {"best mAP50": 0.6, "wall": 3}, "seed 2": {"best mAP50": 0.7},
                   "seed 3, 2 epochs": {"best mAP50": 0.4}}})";
  const std::string seeds = comparison_table({runs[1]}, {.markdown = true, .references = read_reference_runs(reference)});
  const auto has = [&](const std::string& label, const std::string& cell) {
    const auto begin = seeds.find("| " + label + " ");
    return begin != std::string::npos &&
           seeds.substr(begin, seeds.find('\n', begin) - begin).find(" " + cell + " |") != std::string::npos;
  };
  CHECK(has("Theirs: all, 3 seeds", "0.700 (0.600-0.800)"));
  CHECK(has("Theirs: all, seed 3, 2 epochs", "0.400"));
  CHECK(has("Theirs: head", "0.500"));
  std::ofstream(reference) << R"({"what": "Theirs", "runs": {"all": {"best mAP50": 0.8}}, "more seeds": {"what": "tail"}})";
  CHECK_THROWS_WITH_AS(read_reference_runs(reference), doctest::Contains("more seeds of 'tail', which is none of the runs"),
                       Error);
  std::ofstream(reference) << R"({"runs": {}})";
  CHECK_THROWS_WITH_AS(read_reference_runs(reference), doctest::Contains("reference.json: does not hold runs"), Error);

  const std::string page = comparison_page("A & B", runs);
  CHECK(page.find("<h1>A &amp; B</h1>") != std::string::npos);
  CHECK(page.find("all &lt;layers&gt;</td><td>2</td><td>100.0 %</td>") != std::string::npos);
  CHECK(page.find("all <layers>") == std::string::npos);
  CHECK(page.find("http") == std::string::npos);  // it needs nothing else
  // mAP50 .25 at epoch 0 and .5 at epoch 1 on an axis up to .5: the middle of the left edge, the top of the right one.
  CHECK(page.find("points=\"44.0,112.0 510.0,10.0 \"") != std::string::npos);

  CHECK_THROWS_WITH_AS(comparison_table({}), "no run to compare", Error);
  CHECK_THROWS_WITH_AS(read_compared_run("x", folder.path), doctest::Contains("summary.json: not found"), Error);
  std::ofstream(folder.path / "head" / "results.csv", std::ios::app) << "2, what\n";
  CHECK_THROWS_WITH_AS(read_compared_run("head", folder.path / "head"),
                       doctest::Contains("results.csv:4: 'what' is not a number"), Error);
}

TEST_CASE("report: epochs from 100000 on keep their rows; a lock is taken past one who only looks") {
  const Folder folder;
  ResultsCsv csv(folder.path / "results.csv", {"epoch", "loss"});
  for (const double epoch : {99999.0, 100000.0, 100001.0, 123456.0}) csv.append(std::vector{epoch, 0.5});
  const std::string whole = read(folder.path / "results.csv");
  CHECK(csv.keep(123457));
  CHECK(read(folder.path / "results.csv") == whole);
  CHECK(csv.keep(100001));
  CHECK(read(folder.path / "results.csv").find("100001") == std::string::npos);
  CHECK(read(folder.path / "results.csv").find("100000") != std::string::npos);

  { const RunLock first(folder.path); }
  CHECK(RunLock::holder(folder.path).empty());
  const int looking = open((folder.path / ".lock").c_str(), O_RDONLY);
  REQUIRE(flock(looking, LOCK_SH) == 0);
  std::thread looker([&] { usleep(20000), close(looking); });
  const RunLock second(folder.path);
  looker.join();
  CHECK(RunLock::holder(folder.path).starts_with("process " + std::to_string(getpid()) + " on "));
  std::ofstream(folder.path / ".lock") << "process 999999999 on " << [] {
    char host[256] = {};
    gethostname(host, sizeof host - 1);
    return std::string(host);
  }() << " since long ago\n";
  CHECK(RunLock::holder(folder.path) == "another process");
}
