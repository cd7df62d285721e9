#include "engine/training/loop.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/base/interrupt.h"
#include "engine/training/run_checkpoints.h"
#include "tests/device.h"

// The training loop with a task of two numbers whose validation says and does what a test asks for.
using namespace frost;
namespace fs = std::filesystem;

namespace {

struct Folder {
  fs::path path = fs::temp_directory_path() / ("frost_training_loop_test_" + std::to_string(getpid()));
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

struct Script {
  std::vector<double> fitness;                             // of each epoch
  std::map<std::int64_t, std::function<void()>> before{};  // what happens in the validation of an epoch
};

class ScriptedTask final : public TrainingTask {
 public:
  ScriptedTask(ParameterArena& arena, Script script) : arena_(arena), script_(std::move(script)) {}
  std::vector<std::string> loss_names() const override { return {"loss"}; }
  std::vector<std::string> metric_columns() const override { return {"metric"}; }
  std::int64_t batches_per_epoch() const override { return 2; }
  void begin_epoch(std::int64_t epoch) override { epoch_ = epoch; }
  BatchReport train_batch() override {
    for (ParameterGroup& group : arena_.groups())
      if (group.value) group.grad.assign(std::vector<float>(static_cast<std::size_t>(group.count()), 0.1f));
    return {.losses = {1.0 / static_cast<double>(epoch_ + 1)}, .instances = 1, .size = 1, .device_losses = {}};
  }
  std::string table_header(std::int64_t) override { return ""; }
  std::string table_row(const EpochProgress&) override { return ""; }
  ValidationReport validate(Module&, std::int64_t epoch, bool) override {
    if (const auto event = script_.before.find(epoch); event != script_.before.end()) event->second();
    const double fitness = script_.fitness.at(static_cast<std::size_t>(epoch));
    return {{fitness}, fitness};
  }
  std::map<std::string, std::string> metadata() const override { return {}; }

 private:
  ParameterArena& arena_;
  Script script_;
  std::int64_t epoch_ = 0;
};

std::unique_ptr<Sequential> two_numbers(Device& device) {
  auto net = std::make_unique<Sequential>();
  net->append(std::make_unique<Conv2d>(device, 1, 1, ConvGeometry{}, true));
  net->name_all("");
  return net;
}

struct Training {
  testing::TestDevice device{};
  std::unique_ptr<Sequential> model = two_numbers(device), ema_model = two_numbers(device);
  ParameterArena arena{device, *model, 0, true};
  ModelEma average{device, *model, arena, [](const Buffer&) { return false; }};
  ScriptedTask task;
  TrainingLoop loop;

  Training(const Script& script, const LoopOptions& options)
      : task(arena, script),
        loop(device, *model, *ema_model, arena, average, task, options_for(script, options), silence()) {}
  Training(const Script& script, const fs::path& run) : Training(script, in(run)) {}
  static LoopOptions in(const fs::path& run) {
    LoopOptions options;
    options.folder = run;
    return options;
  }
  static LoopOptions options_for(const Script& script, LoopOptions options) {
    options.schedule.epochs = std::ssize(script.fitness);
    options.schedule.batches_per_epoch = 2;
    options.schedule.batch_size = options.schedule.nominal_batch = 1;
    return options;
  }
  void finish() {
    loop.run();
    loop.finish();
  }
};

/// The run's files, but for what a clock measures.
std::map<std::string, std::string> contents(const fs::path& run) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(run)) {
    if (!entry.is_regular_file()) continue;
    std::string& bytes = all[fs::relative(entry.path(), run).string()] = read(entry.path());
    if (entry.path().filename() != "summary.json") continue;
    auto json = nlohmann::ordered_json::parse(bytes);
    for (const char* clock : {"train_seconds", "seconds_per_epoch", "seconds_per_step"}) json.erase(clock);
    bytes = json.dump(1);
  }
  return all;
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("training loop: a validation that is interrupted or fails costs nothing of its epoch") {
  const Folder folder;
  const Script calm{.fitness = {0.2, 0.5, 0.4}};
  Training(calm, folder.path / "whole").finish();
  const auto whole = contents(folder.path / "whole");
  const std::map<std::string, std::function<void()>> events{
      {"interrupted while validating epoch ", [] { throw Interrupted("interrupted"); }},
      {"a picture", [] { fail("a picture"); }},
      {"std::bad_alloc", [] { throw std::bad_alloc(); }}};
  for (const auto& [words, event] : events) {
    for (const std::int64_t epoch : {0, 1, 2}) {
      CAPTURE(words);
      CAPTURE(epoch);
      const fs::path run = folder.path / "run";
      fs::remove_all(run);
      Script script = calm;
      script.before[epoch] = event;
      CHECK(has(error_of([&] { Training(script, run).finish(); }), words));
      // Once more: the resumed run's validation fails as well.
      Training again(script, run);
      again.loop.resume(again.loop.last());
      CHECK(has(error_of([&] { again.finish(); }), words));
      Training last(calm, run);
      last.loop.resume(last.loop.last());
      last.finish();
      CHECK((contents(run) == whole));
    }
  }
}

TEST_CASE("training loop: a row that cannot be written is written by the resumed run") {
  const Folder folder;
  const Script calm{.fitness = {0.2, 0.5, 0.4}};
  Training(calm, folder.path / "whole").finish();
  for (const std::int64_t epoch : {1, 2}) {
    const fs::path run = folder.path / "run", csv = run / "results.csv", aside = folder.path / "aside";
    fs::remove_all(run);
    Script script = calm;
    script.before[epoch] = [&] {
      fs::rename(csv, aside);
      fs::create_directory(csv);
    };
    CHECK(has(error_of([&] { Training(script, run).finish(); }), "results.csv: cannot write"));
    fs::remove(csv);
    fs::rename(aside, csv);
    Training last(calm, run);
    last.loop.resume(last.loop.last());
    last.finish();
    CHECK((contents(run) == contents(folder.path / "whole")));
  }
}

TEST_CASE("training loop: a metric that is not finite ends the run, the epoch before stays") {
  const Folder folder;
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {std::nan(""), inf, -inf}) {
    const fs::path run = folder.path / "run";
    fs::remove_all(run);
    const std::string said = error_of([&] { Training({.fitness = {0.2, 0.5, bad, 0.1}}, run).finish(); });
    CHECK(has(said, "metric is "));
    CHECK(has(said, "after epoch 2: training has diverged"));
    for (const char* file : {"last", "best"})
      CHECK(read_safetensors_metadata(run / "weights" / (std::string(file) + ".safetensors")).at(kOwnEpochKey) == "1");
  }
}

TEST_CASE("training loop: the summary's best epoch is that of best, ties included") {
  const Folder folder;
  for (const std::vector<double>& fitness :
       {std::vector<double>{0.5, 0.3, 0.5, 0.2}, {0, 0, 0}, {0.1, 0.2, 0.3}, {0.4, 0.4, 0.1}}) {
    const fs::path run = folder.path / "run";
    fs::remove_all(run);
    Training training({.fitness = fitness}, run);
    training.finish();
    const std::int64_t epoch = training.loop.summary().best_epoch;
    CHECK(read_safetensors_metadata(training.loop.best()).at(kOwnEpochKey) == std::to_string(epoch));
    CHECK(training.loop.summary().metric("metric") == fitness[static_cast<std::size_t>(epoch)]);
  }
}

TEST_CASE("training loop: with nosave the best epoch may be in no file, and best may hold an earlier one") {
  const Folder folder;
  struct Case {
    std::vector<double> fitness;
    std::string written;  // the epoch in best; "": there is none
  };
  for (const Case& c : {Case{{0.1, 0.9, 0.8, 0.7, 0.1, 0.1}, ""}, Case{{0.9, 0.1, 0.95, 0.99, 0.1, 0.1, 0.1, 0.1}, "2"}}) {
    const fs::path run = folder.path / "run", kept = folder.path / "kept";
    fs::remove_all(run), fs::remove_all(kept);
    LoopOptions options;
    options.patience = 2, options.nosave = true, options.folder = run, options.run = "new";
    Training first({.fitness = c.fitness}, options);
    first.loop.run();  // and dies before its end
    CHECK(first.loop.result() == (c.written.empty() ? first.loop.last() : first.loop.best()));
    if (c.written.empty()) {
      // Another run's best stays and is not this run's.
      const SafetensorsFile last = read_safetensors(first.loop.last());
      Metadata other = last.metadata;
      end_training(other);
      other[kRunKey] = "old";
      for (const char* epoch : {"0", "1", "3"}) {
        other[kOwnEpochKey] = epoch;
        write_safetensors(first.loop.best(), last.tensors, other);
        const std::string before = read(first.loop.best());
        Training again({.fitness = c.fitness}, options);
        again.loop.resume(again.loop.last());
        again.loop.run();
        CHECK((read(first.loop.best()) == before));
        CHECK(again.loop.result() == again.loop.last());
        CHECK_FALSE(again.loop.summary().files.contains("best.safetensors"));
      }
      continue;
    }
    fs::copy(run, kept, fs::copy_options::recursive);
    first.loop.finish();
    const auto whole = contents(run);
    fs::remove_all(run);
    fs::copy(kept, run, fs::copy_options::recursive);
    Training again({.fitness = c.fitness}, options);
    again.loop.resume(again.loop.last());
    again.finish();
    CHECK((contents(run) == whole));
    CHECK(read_safetensors_metadata(again.loop.best()).at(kOwnEpochKey) == c.written);
  }
}

TEST_CASE("training loop: a state that does not say which epoch best holds leaves best where it is of an epoch so far") {
  const Folder folder;
  const fs::path run = folder.path / "run";
  Script script{.fitness = {0.2, 0.5, 0.4, 0.3, 0.1}};
  Script cut = script;
  cut.before[3] = [] { fail("cut"); };
  CHECK(error_of([&] { Training(cut, run).finish(); }) == "cut");
  const fs::path last = run / "weights" / "last.safetensors", best = run / "weights" / "best.safetensors";
  SafetensorsFile file = read_safetensors(last);
  auto state = nlohmann::json::parse(file.metadata.at(kTrainingStateKey));
  CHECK(state.at("written_best") == 1);
  state.erase("written_best");
  const std::string kept = read(best);
  for (const int early_stop_best : {0, 1, 2}) {  // with patience and a late start of "best" the two are not the same
    CAPTURE(early_stop_best);
    state["best_epoch"] = early_stop_best;
    file.metadata[kTrainingStateKey] = state.dump();
    write_safetensors(last, file.tensors, file.metadata);
    Training again(script, run);
    again.loop.resume(last);
    CHECK((read(best) == kept));
    CHECK(again.loop.result() == best);
  }
  // Of a later epoch: that one is undone.
  SafetensorsFile later = read_safetensors(best);
  later.metadata[kOwnEpochKey] = "4";
  write_safetensors(best, later.tensors, later.metadata);
  Training again(script, run);
  again.loop.resume(last);
  CHECK_FALSE(fs::exists(best));
}

TEST_CASE("training loop: a state whose numbers cannot be right is refused before anything is written") {
  const Folder folder;
  const fs::path run = folder.path / "run";
  const Script script{.fitness = {0.2, 0.5, 0.4, 0.3, 0.1}};
  Script cut = script;
  cut.before[2] = [] { fail("cut"); };
  CHECK(error_of([&] { Training(cut, run).finish(); }) == "cut");
  const fs::path last = run / "weights" / "last.safetensors", edited = run / "weights" / "edited.safetensors";
  const SafetensorsFile good = read_safetensors(last);
  const std::string state = good.metadata.at(kTrainingStateKey), costs = good.metadata.at(kTrainingCostsKey);
  using Edit = std::pair<const char*, nlohmann::json>;
  const std::int64_t far = std::int64_t{1} << 62;
  std::vector<Metadata> bad;
  for (const auto& [key, value] : {Edit{"epoch", far},
                                   Edit{"epoch", 100000000},
                                   Edit{"epoch", -5},
                                   Edit{"epoch", 1.5},
                                   Edit{"epoch", "2"},
                                   Edit{"epochs", 0},
                                   Edit{"best_epoch", 3},
                                   Edit{"best_epoch", -1},
                                   Edit{"written_best", 7},
                                   Edit{"steps", -1},
                                   Edit{"steps", far},
                                   Edit{"ema_updates", -1},
                                   Edit{"last_step", 6},
                                   Edit{"losses", {1, 2}},
                                   Edit{"losses", 1},
                                   Edit{"metrics", nlohmann::json::array()},
                                   Edit{"lr", {0.1}},
                                   Edit{"batches_per_epoch", 0},
                                   Edit{"batches_per_epoch", 3},
                                   Edit{"wakes", {{0, -1}}},
                                   Edit{"best_fitness", nullptr},
                                   Edit{"optimizer", 1},
                                   Edit{"loss_scale", 0},
                                   Edit{"loss_scale", "x"},
                                   Edit{"best", {{"epoch", 9}}}}) {
    auto json = nlohmann::json::parse(state);
    json[key] = value;
    bad.push_back(good.metadata), bad.back()[kTrainingStateKey] = json.dump();
  }
  auto far_run = nlohmann::json::parse(state);
  far_run["epoch"] = 50, far_run["epochs"] = 100;
  for (const std::string& text : {far_run.dump(), std::string("{"), std::string(""), std::string("[]"), std::string("null")})
    bad.push_back(good.metadata), bad.back()[kTrainingStateKey] = text;
  for (const char* text : {"{", R"({"epochs": -1, "steps": 0})", R"({"epochs": 1, "steps": 1e30})"})
    bad.push_back(good.metadata), bad.back()[kTrainingCostsKey] = text;
  const auto before = contents(run);
  for (const Metadata& about : bad) {
    CAPTURE(about.at(kTrainingStateKey));
    write_safetensors(edited, good.tensors, about);
    const std::string said = error_of([&] { Training(script, run).loop.resume(edited); });
    CAPTURE(said);
    CHECK(has(said, "edited.safetensors: "));
    fs::remove(edited);
    CHECK((contents(run) == before));
  }
}

TEST_CASE("run checkpoints: stripped without averages, the tensors stay; a second time changes nothing") {
  const Folder folder;
  const fs::path run = folder.path / "run", file = run / "weights" / "last.safetensors";
  Training training({.fitness = {0.2, 0.5}}, run);
  training.loop.run();
  const SafetensorsFile last = read_safetensors(file);
  strip_checkpoint(file, silence());
  const std::string once = read(file);
  strip_checkpoint(file, silence());
  CHECK((read(file) == once));
  for (const StateDict& tensors : {last.tensors.below("ema."), last.tensors.below("0.")}) {
    write_safetensors(file, tensors, last.metadata);
    end_unfinished(run);
    const SafetensorsFile after = read_safetensors(file);
    CHECK_FALSE(after.metadata.contains(kTrainingStateKey));
    CHECK(after.tensors.size() == tensors.size());
    CHECK(tensors.size() > 0);
  }
}
