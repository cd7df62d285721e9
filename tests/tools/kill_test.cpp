#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/checkpoint/safetensors.h"
#include "tests/models/stripes.h"
#include "tests/tools/world.h"

// A training killed at each of its writes in turn, and at random moments: --resume makes its folder that of a training that
// nobody disturbed.
using namespace frost::tests;

namespace {

/// One way to train: `start` without the run's folder.
struct Training {
  std::string tool, flags;

  std::string start(const fs::path& run) const {
    return kBin + tool + flags + " --exist-ok --project " + run.parent_path().string() + " --name " +
           run.filename().string();
  }
  std::string resume(const fs::path& run) const { return kBin + tool + " --resume " + last_of(run).string(); }
  static fs::path last_of(const fs::path& run) { return run / "weights" / "last.safetensors"; }
};

/// Three convolutions and a head: a run of it takes a tenth of a second.
std::string tiny_model() {
  const fs::path file = world().dir / "tiny.yaml";
  write(file,
        "nc: 4\ndepth_multiple: 1.0\nwidth_multiple: 1.0\nanchors:\n  - [10,13, 16,30, 33,23]\n  - [30,61, 62,45, 59,119]\n"
        "backbone:\n  [[-1, 1, Conv, [16, 6, 2, 2]],\n   [-1, 1, Conv, [16, 3, 2]],\n   [-1, 1, Conv, [16, 3, 2]],\n"
        "   [-1, 1, Conv, [16, 3, 2]]]\nhead:\n  [[[2, 3], 1, Detect, [nc, anchors]]]\n");
  return file.string();
}

Training detector(const std::string& flags) {
  return {"yolo-train", " --weights '' --cfg " + tiny_model() + " --data " + world().data() +
                            " --imgsz 64 --nbs 4 --workers 0 --noautoanchor " + flags};
}

std::string said(const Outcome& outcome) { return outcome.out + outcome.err; }

/// The run's files by what they must have in common with another run's: names, and of those that are compared, bytes.
/// summary.json without what a clock measures.
std::map<std::string, std::string> contents(const fs::path& run) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(run)) {
    if (!entry.is_regular_file()) continue;
    const std::string name = fs::relative(entry.path(), run).string();
    std::string& bytes = all[name];
    if (name == ".lock" || name == "opt.yaml") continue;  // a process and the run's own place
    bytes = slurp(entry.path());
    if (name == "summary.json") {
      auto json = nlohmann::ordered_json::parse(bytes);
      for (const char* clock : {"train_seconds", "seconds_per_epoch", "seconds_per_step"}) json.erase(clock);
      bytes = json.dump(1);
    }
    if (name.starts_with("weights/epoch")) {  // not stripped
      frost::SafetensorsFile file = frost::read_safetensors(entry.path());
      REQUIRE(file.metadata.erase("frost.costs") == 1);
      const fs::path copy = world().dir / "without_costs.safetensors";
      frost::write_safetensors(copy, file.tensors, file.metadata);
      bytes = slurp(copy);
    }
  }
  return all;
}

void check_same(const std::map<std::string, std::string>& whole, const fs::path& run) {
  const auto mine = contents(run);
  for (const auto& [name, bytes] : whole) {
    CAPTURE(name);
    REQUIRE(mine.contains(name));
    if (name.ends_with(".csv") || name.ends_with(".json"))
      CHECK(mine.at(name) == bytes);
    else
      CHECK((mine.at(name) == bytes));
  }
  for (const auto& [name, bytes] : mine) CHECK_MESSAGE(whole.contains(name), name << " is left over");
}

/// Brings a run whose process has died to its end, as a person does.
void go_on(const Training& training, const fs::path& run) {
  const bool saved = fs::exists(Training::last_of(run));
  const Outcome outcome = world().run(training.resume(run));
  CAPTURE(said(outcome));
  if (!saved) {
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find("last.safetensors: not found") != std::string::npos);
    const Outcome again = world().run(training.start(run));
    CAPTURE(said(again));
    CHECK(again.code == 0);
  } else if (outcome.code != 0) {  // it died when all was done
    CHECK(outcome.err.find("training is finished, nothing to resume") != std::string::npos);
  }
}

constexpr int kKilled = 128 + SIGKILL;

std::string killed_at(const std::string& command, const fs::path& run, int step) {
  return "env LD_PRELOAD=" FROST_KILL_AT_WRITE " KILL_FOLDER=" + run.string() + " KILL_STEP=" + std::to_string(step) + " " +
         command;
}

/// Each step from `first` on, each `stride`-th. Returns how many steps there are.
int walk(const Training& training, const std::string& name, int stride = 1) {
  const fs::path whole = world().dir / name / "whole", run = world().dir / name / "run";
  const Outcome undisturbed = world().run(training.start(whole));
  CAPTURE(said(undisturbed));
  REQUIRE(undisturbed.code == 0);
  const auto expected = contents(whole);
  for (int step = 1;; step += stride) {
    CAPTURE(step);
    fs::remove_all(run);
    const Outcome first = world().run(killed_at(training.start(run), run, step));
    CAPTURE(said(first));
    if (first.code == 0) {
      check_same(expected, run);
      return step;
    }
    REQUIRE(first.code == kKilled);
    // The process that goes on may die as well.
    if (fs::exists(Training::last_of(run)) && step % 2 == 0)
      static_cast<void>(world().run(killed_at(training.resume(run), run, 1 + step * 7 % 23)));
    go_on(training, run);
    check_same(expected, run);
  }
}

/// Ends a command after a while; whether it was still running.
bool killed_after(const std::string& command, double seconds) {
  return world().run(command + " & pid=$!; sleep " + std::to_string(seconds) + "; kill -KILL $pid; wait $pid").code ==
         kKilled;
}

}  // namespace

TEST_CASE("a detector's training, killed at each of its writes, ends as one that nobody disturbed") {
  const int steps = walk(detector("--epochs 2 --save-period 1 --batch-size 3"), "plots");
  MESSAGE(steps, " steps");
  CHECK(steps > 60);
}

TEST_CASE("killed at each write: --noval, --nosave, layers that wake up, masks, Adam, a pruned start") {
  walk(detector("--epochs 2 --noplots --noval --batch-size 8"), "noval", 3);
  walk(detector("--epochs 2 --noplots --nosave --batch-size 5"), "nosave", 3);
  walk(detector(
           "--epochs 3 --noplots --batch-size 4 --freeze 2 --unfreeze-at 1:0 --prune-schedule 0.0:0.5:2 --optimizer Adam"),
       "thaw", 3);
}

TEST_CASE("killed at each write: early stop, by patience") {
  // Momentum and rate so high that the first epochs stay the best.
  REQUIRE(world().run(detector("--epochs 1 --noplots").start(world().dir / "hyp")).code == 0);
  std::string text = slurp(world().dir / "hyp" / "hyp.yaml");
  text.replace(text.find("lr0:"), text.find('\n') - text.find("lr0:"), "lr0: 0.3");
  const fs::path hyp = world().dir / "wild.yaml";
  write(hyp, text);
  const Training training = detector("--epochs 30 --noplots --batch-size 4 --patience 2 --hyp " + hyp.string());
  const fs::path run = world().dir / "patience" / "whole";
  walk(training, "patience", 4);
  const std::string csv = slurp(run / "results.csv");
  CHECK(std::count(csv.begin(), csv.end(), '\n') < 31);
}

TEST_CASE("killed at each write: a classifier") {
  const fs::path data = world().dir / "stripes";
  frost::testing::write_stripes(data, 0, 3, 3);
  walk({"classify-train", " --model yolov5n-cls --imgsz 32 --batch-size 9 --workers 0 --epochs 2 --data " + data.string()},
       "classifier", 5);
}

TEST_CASE("killed at random moments, again and again") {
  const char* asked = std::getenv("KILLS");
  const int kills = asked ? std::atoi(asked) : 12;
  const Training training = detector("--epochs 12 --save-period 5 --batch-size 4");
  const fs::path whole = world().dir / "random" / "whole", run = world().dir / "random" / "run";
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(world().run(training.start(whole)).code == 0);
  const auto length =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start).count();
  const auto expected = contents(whole);
  std::mt19937 random(7);
  std::uniform_real_distribution<double> moment(0, length);
  for (int done = 0, ended = 0; done < kills;) {
    CAPTURE(done);
    const bool saved = fs::exists(Training::last_of(run));
    if (killed_after(saved ? training.resume(run) : training.start(run), moment(random))) {
      ++done;
      continue;
    }
    go_on(training, run);
    check_same(expected, run);
    fs::remove_all(run);
    ++ended;
  }
  go_on(training, run);
  check_same(expected, run);
}
