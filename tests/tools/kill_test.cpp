#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/checkpoint/safetensors.h"
#include "tests/models/stripes.h"
#include "tests/tools/world.h"

// A training killed at each of its writes in turn (some kinds: at every few, unless KILLS is in the environment), and at
// random moments: --resume makes its folder that of a training that nobody disturbed.
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
  setenv("OMP_NUM_THREADS", "1", 1);  // so little work is not worth a second thread
  return {"yolo-train", " --weights '' --cfg " + tiny_model() + " --data " + world().data() +
                            " --imgsz 64 --nbs 4 --workers 0 --noautoanchor " + flags};
}

/// A classifier's data.
std::string stripes() {
  const fs::path folder = world().dir / "stripes";
  if (!fs::exists(folder)) frost::testing::write_stripes(folder, 0, 3, 3);
  return folder.string();
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
    CHECK(outcome.err.find("last.safetensors: ") != std::string::npos);
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

/// Kills at each `stride`-th step, at each one where the environment has KILLS. Returns how many steps there are.
int walk(const Training& training, const std::string& name, int stride = 1) {
  if (std::getenv("KILLS")) stride = 1;
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

/// Kills a fresh training as soon as it has left a checkpoint to be resumed.
void cut(const Training& training, const fs::path& run) {
  for (int step = 1; !fs::exists(Training::last_of(run)); ++step) {
    fs::remove_all(run);
    REQUIRE(world().run(killed_at(training.start(run), run, step)).code == kKilled);
  }
}

/// Ends a command after a while; whether it was still running.
bool killed_after(const std::string& command, double seconds) {
  return world().run(command + " & pid=$!; sleep " + std::to_string(seconds) + "; kill -KILL $pid; wait $pid").code ==
         kKilled;
}

/// The built-in hyperparameters with one line of them exchanged.
std::string hyp_with(const std::string& key, const std::string& value) {
  static const std::string usual = [] {
    REQUIRE(world().run(detector("--epochs 1 --noplots").start(world().dir / "hyp")).code == 0);
    return slurp(world().dir / "hyp" / "hyp.yaml");
  }();
  std::string text = usual;
  const auto line = text.find(key + ":");
  REQUIRE(line != std::string::npos);
  text.replace(line, text.find('\n', line) - line, key + ": " + value);
  const fs::path file = world().dir / (key + value + ".yaml");
  write(file, text);
  return file.string();
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The one line of an error on stderr, without the progress bars.
void check_error(const Outcome& outcome, std::initializer_list<std::string> words) {
  CAPTURE(said(outcome));
  CHECK(outcome.code == 1);
  for (const std::string& word : words) CHECK_MESSAGE(has(outcome.err, word), word);
}

bool all_finite(const fs::path& file) {
  for (const auto& [name, tensor] : frost::read_safetensors(file).tensors)
    if (!tensor.all_finite()) return false;
  return true;
}

}  // namespace

TEST_CASE("a detector's training, killed at each of its writes, ends as one that nobody disturbed") {
  const int steps = walk(detector("--epochs 2 --save-period 1 --batch-size 3"), "plots");
  MESSAGE(steps, " steps");
  CHECK(steps > 60);
}

TEST_CASE("killed at every third write: --noval, --nosave, layers that are unfrozen, masks, Adam, a pruned start") {
  walk(detector("--epochs 2 --noplots --noval --batch-size 8"), "noval", 3);
  walk(detector("--epochs 2 --noplots --nosave --batch-size 5"), "nosave", 3);
  walk(detector(
           "--epochs 3 --noplots --batch-size 4 --freeze 2 --unfreeze-at 1:0 --prune-schedule 0.0:0.5:2 --optimizer Adam"),
       "thaw", 3);
}

TEST_CASE("killed at every fourth write: early stop, by patience") {
  // Momentum and rate so high that the first epochs stay the best.
  const Training training = detector("--epochs 30 --noplots --batch-size 4 --patience 2 --hyp " + hyp_with("lr0", "0.3"));
  const fs::path run = world().dir / "patience" / "whole";
  walk(training, "patience", 4);
  const std::string csv = slurp(run / "results.csv");
  CHECK(std::count(csv.begin(), csv.end(), '\n') < 31);
}

TEST_CASE("killed at every third write: --nosave and --patience, where the best epoch is in no file") {
  walk(detector("--epochs 60 --noplots --batch-size 4 --patience 2 --nosave --seed 4"), "late", 3);
}

TEST_CASE("killed at every fifth write: a classifier") {
  walk({"classify-train", " --model yolov5n-cls --imgsz 32 --batch-size 9 --workers 0 --epochs 2 --data " + stripes()},
       "classifier", 5);
}

TEST_CASE("killed at random moments, again and again") {
  const char* asked = std::getenv("KILLS");
  const int kills = asked ? std::atoi(asked) : 12;
  const Training training = detector("--epochs 12 --save-period 5 --batch-size 4");
  const fs::path whole = world().dir / "random" / "whole", run = world().dir / "random" / "run";
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(world().run(training.start(whole)).code == 0);
  const double length = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
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

TEST_CASE("numbers that are not finite: nothing is written of such an epoch, the first bad tensor is named") {
  const fs::path run = world().dir / "diverged" / "run";
  using Case = std::pair<const char*, const char*>;
  for (const auto& [flags, lr] :
       {Case{"--epochs 1", "1e10"}, Case{"--epochs 6 --save-period 1", "1e10"}, Case{"--epochs 1 --nosave", "1e10"},
        Case{"--epochs 2 --noval --nosave", "1e10"}, Case{"--epochs 1 --optimizer Adam", "1e38"}}) {
    CAPTURE(flags);
    fs::remove_all(run);
    const Outcome outcome =
        world().run(detector(std::string(flags) + " --batch-size 2 --noplots --hyp " + hyp_with("lr0", lr)).start(run));
    check_error(outcome, {"training has diverged", "no checkpoint was written yet"});
    CHECK(fs::is_empty(run / "weights"));
    CHECK_FALSE(has(slurp(run / "results.csv"), "nan"));
    CHECK_FALSE(fs::exists(run / "summary.json"));
  }
  // Diverging later: the epoch before stays, and can be resumed.
  fs::remove_all(run);
  const Outcome later = world().run(
      detector("--epochs 40 --batch-size 8 --noplots --save-period 1 --hyp " + hyp_with("lr0", "1e6")).start(run));
  check_error(later, {"training has diverged", "the last good checkpoint is "});
  const std::string csv = slurp(run / "results.csv");
  const auto rows = std::count(csv.begin(), csv.end(), '\n') - 1;
  CHECK(rows >= 1);
  CHECK_FALSE(has(csv, "nan"));
  for (const auto& entry : fs::directory_iterator(run / "weights")) CHECK(all_finite(entry.path()));
  CHECK(frost::read_safetensors(Training::last_of(run)).metadata.at("epoch") == std::to_string(rows - 1));
}

TEST_CASE("weights that are not finite are refused before the first epoch; a classifier's epoch like a detector's") {
  const fs::path start = world().dir / "nan" / "start", run = world().dir / "nan" / "run";
  REQUIRE(world().run(detector("--epochs 1 --batch-size 4 --noplots").start(start)).code == 0);
  const frost::SafetensorsFile good = frost::read_safetensors(Training::last_of(start));
  for (const char* bad : {"model.2.conv.weight", "model.1.bn.running_var", "model.4.m.0.bias"}) {
    CAPTURE(bad);
    frost::StateDict tensors;
    for (const auto& [name, tensor] : good.tensors) {
      frost::HostTensor copy = tensor;
      if (name == bad) std::fill_n(copy.bytes.end() - 4, 4, std::byte{0xff});
      tensors.add(name, std::move(copy));
    }
    const fs::path file = world().dir / "nan.safetensors";
    frost::write_safetensors(file, tensors, good.metadata);
    fs::remove_all(run);
    check_error(world().run(kBin + "yolo-train --weights " + file.string() + " --data " + world().data() +
                            " --imgsz 64 --batch-size 4 --epochs 1 --noplots --exist-ok --project nan --name run"),
                {bad, "is not finite before the first epoch"});
    CHECK_FALSE(fs::exists(run));
    // A run that cannot start has not ended the one that is there.
    const fs::path there = world().dir / "nan" / "there";
    cut(detector("--epochs 2 --batch-size 4 --noplots"), there);
    const auto before = contents(there);
    check_error(world().run(kBin + "yolo-train --weights " + file.string() + " --data " + world().data() +
                            " --imgsz 64 --batch-size 4 --epochs 1 --noplots --exist-ok --project nan --name there"),
                {bad, "is not finite before the first epoch"});
    check_same(before, there);
  }
  for (const char* flags : {"--lr0 1000 --optimizer SGD", "--lr0 1000 --optimizer AdamW"}) {
    CAPTURE(flags);
    fs::remove_all(run);
    check_error(
        world().run(kBin + "classify-train --model yolov5n-cls --imgsz 32 --batch-size 6 --epochs 20 --nosave --noplots " +
                    flags + " --exist-ok --project nan --name run --data " + stripes()),
        {"training has diverged", "no checkpoint was written yet"});
    CHECK(fs::is_empty(run / "weights"));
  }
}

TEST_CASE("two trainings in one folder: the second one says who has it, readers are let in, a dead one's lock is gone") {
  const Training training = detector("--epochs 50000 --batch-size 4 --noplots");
  const fs::path run = world().dir / "two" / "run", last = Training::last_of(run);
  const std::string with_last =
      " & pid=$!; for i in $(seq 600); do test -f " + last.string() + " && break; sleep 0.05; done; ";
  const Outcome outcome =
      world().run(training.start(run) + " > /dev/null 2>&1" + with_last + training.resume(run) + " && exit 7; " +
                  training.start(run) + " && exit 7; " + kBin + "classify-train --data " + stripes() +
                  " --imgsz 32 --epochs 1 --exist-ok --project two --name run && exit 7; " + kBin +
                  "yolo-train --resume --project two; " + "touch " + (run / ".summary.json.$pid.tmp").string() + "; " +
                  kBin + "yolo-val --weights " + last.string() + " --data " + world().data() +
                  " --imgsz 64 --project val || exit 8; kill -KILL $pid; wait $pid; test $? = 137");
  CAPTURE(said(outcome));
  CHECK(outcome.code == 0);
  std::size_t refused = 0;
  for (auto at = outcome.err.find(": in use by process "); at != std::string::npos;
       at = outcome.err.find(": in use by process ", at + 1))
    ++refused;
  CHECK(refused == 3);
  CHECK(has(outcome.err, " since 20"));
  CHECK(has(outcome.out, "in training by process "));
  CHECK(has(outcome.err, "--resume: no unfinished run below two"));
  // The next one gets in, and takes away what the dead one left: not what the living, or nobody, left.
  write(run / ".b.1.tmp", "alive");
  write(run / ".c.tmp", "not ours");
  write(run / ".notes.999999999.tmp", "not ours");
  const fs::path dead = run / "weights" / ".last.safetensors.999999999.tmp";
  write(dead, "dead");
  const Outcome next = world().run(training.resume(run) + " & pid=$!; for i in $(seq 600); do test -f " + dead.string() +
                                   " || break; sleep 0.05; done; kill -KILL $pid; wait $pid");
  CAPTURE(said(next));
  CHECK(next.code == kKilled);
  CHECK(fs::exists(run / ".b.1.tmp"));
  CHECK(fs::exists(run / ".c.tmp"));
  CHECK(fs::exists(run / ".notes.999999999.tmp"));
  CHECK_FALSE(fs::exists(dead));
  for (const auto& entry : fs::directory_iterator(run))
    CHECK_FALSE(entry.path().filename().string().starts_with(".summary"));
}

TEST_CASE("--resume without a file: what cannot be read and what is finished is named and passed over") {
  const fs::path project = world().dir / "bare";
  const Training training = detector("--epochs 2 --batch-size 4 --noplots");
  cut(training, project / "cut");
  REQUIRE(world().run(training.start(project / "done")).code == 0);
  const std::string good = slurp(Training::last_of(project / "done"));
  write(Training::last_of(project / "corrupt"), good.substr(0, good.size() / 2));
  write(Training::last_of(project / "empty"), "");
  fs::create_directories(Training::last_of(project / "folder"));
  for (const char* name : {"pipe", "nowhere"}) fs::create_directories(project / name / "weights");
  REQUIRE(world().run("mkfifo bare/pipe/weights/last.safetensors").code == 0);
  fs::create_symlink("gone", Training::last_of(project / "nowhere"));
  // Each a copy of the good run with one thing wrong.
  const std::string options = slurp(project / "cut" / "opt.yaml");
  const frost::SafetensorsFile cut_off = frost::read_safetensors(Training::last_of(project / "cut"));
  using Edit = std::function<void(frost::SafetensorsFile&)>;
  std::map<std::string, std::string> causes;  // of each
  const auto copy = [&](const std::string& name, const std::string& opt, const std::string& cause, const Edit& edit = {}) {
    frost::SafetensorsFile file = cut_off;
    if (edit) edit(file);
    frost::write_safetensors(Training::last_of(project / name), file.tensors, file.metadata);
    write(project / name / "opt.yaml", opt);
    fs::copy_file(project / "cut" / "hyp.yaml", project / name / "hyp.yaml");
    causes[name] = cause;
  };
  const auto state = [](const std::string& text) {
    return [=](frost::SafetensorsFile& file) { file.metadata["frost.training"] = text; };
  };
  const auto with = [&](const std::string& key, const std::string& value) {
    std::string text = options;
    const auto line = text.find("\n" + key + ":") + 1;
    REQUIRE(line > 0);
    return text.replace(line, text.find('\n', line) - line, key + ": " + value);
  };
  copy("no json", options, "training state cannot be read", state("{"));
  copy("no state", options, "training state cannot be read", state("[]"));
  copy("far", options, "training state cannot be r", state(R"({"epoch": 1000000000000000000})"));
  for (const char* key : {"best_fitness", "stopper_best", "last_step", "steps", "ema_updates", "optimizer"}) {
    auto json = nlohmann::json::parse(cut_off.metadata.at("frost.training"));
    json.erase(key);
    copy(std::string("without ") + key, options, key, state(json.dump()));
  }
  copy("no optimizer", options, "no optimizer state", [](frost::SafetensorsFile& file) {
    frost::StateDict rest;
    for (const auto& [name, tensor] : file.tensors)
      if (!name.starts_with("optimizer.")) rest.add(name, tensor);
    file.tensors = rest;
  });
  copy("empty options", "", "opt.yaml");
  copy("cut options", options.substr(0, options.find("seed:")), "opt.yaml: cut off");
  copy("cut value", options.substr(0, options.size() - 3), "opt.yaml");
  copy("no options", options, "opt.yaml: not found");
  fs::remove(project / "no options" / "opt.yaml");
  copy("epochs", with("epochs", "-3"), "opt.yaml: --epochs: must be at least 1 (given: -3)");
  copy("batch", with("batch_size", "0"), "opt.yaml: --batch-size: must be at least 1");
  copy("image size", with("imgsz", "7"), "opt.yaml: --imgsz: must be from 32");
  copy("precision", with("precision", "f99"), "opt.yaml: --precision: ");
  copy("smoothing", with("label_smoothing", "2"), "opt.yaml: --label-smoothing: ");
  copy("no hyp", options, "hyp.yaml");
  fs::remove(project / "no hyp" / "hyp.yaml");
  copy("bad hyp", options, "hyp.yaml");
  write(project / "bad hyp" / "hyp.yaml", "lr0: fast\n");
  const Training other{"classify-train", " --model yolov5n-cls --imgsz 32 --epochs 1 --workers 0 --data " + stripes()};
  REQUIRE(world().run(other.start(project / "classifier")).code == 0);
  copy("a classifier", slurp(project / "classifier" / "opt.yaml"), "a run of classify-train, not of yolo-train");
  const Outcome outcome = world().run("timeout 100 " + kBin + "yolo-train --resume --project bare");
  CAPTURE(said(outcome));
  CHECK(outcome.code == 0);
  for (const char* name : {"corrupt", "empty", "folder", "pipe"})
    CHECK(has(outcome.out, "WARNING: --resume skips a checkpoint: bare/" + std::string(name) + "/weights/last.safetensors"));
  CHECK(has(outcome.out, "--resume skips bare/"));
  CHECK(has(outcome.out, "bare/done/weights/last.safetensors"));
  for (const auto& [name, cause] : causes) {
    CAPTURE(name);
    const auto line = outcome.out.find("WARNING: --resume skips a checkpoint: bare/" + name + "/");
    REQUIRE(line != std::string::npos);
    CHECK(has(outcome.out.substr(line, outcome.out.find('\n', line) - line), cause));
  }
  // A run that is named says the same.
  for (const char* name : {"epochs", "batch", "a classifier", "bad hyp", "no optimizer", "without steps"}) {
    CAPTURE(name);
    const std::string cause = std::string(name) == "no optimizer" ? "optimizer.momentum." : causes.at(name);
    check_error(world().run(kBin + "yolo-train --resume '" + Training::last_of(project / name).string() + "'"), {cause});
  }
  CHECK(fs::exists(project / "cut" / "summary.json"));
  check_error(world().run(kBin + "yolo-train --resume --project bare"), {"no unfinished run below bare"});
  CHECK(has(world().run(kBin + "yolo-train --resume --project bare").out, "bare/nowhere/weights/last.safetensors"));
}

TEST_CASE("a limit on file sizes is a full disk; an epoch is not lost to what is written after its checkpoint") {
  const fs::path run = world().dir / "limit" / "run", whole = world().dir / "limit" / "whole";
  const Training training = detector("--epochs 2 --batch-size 4");
  REQUIRE(world().run(training.start(whole)).code == 0);
  const Outcome none = world().run("ulimit -f 8; " + training.start(run));
  check_error(none, {"cannot write ", "File too large"});
  fs::remove_all(run);
  REQUIRE(world().run(training.start(run) + " --noplots").code == 0);
  fs::remove_all(run);
  // A folder where a file is to be written, since the run was begun.
  for (const char* blocked : {"results.csv", "weights/best.safetensors", "summary.json", "val_batch0_pred.jpg"}) {
    CAPTURE(blocked);
    fs::remove_all(run);
    cut(training, run);
    fs::create_directories(run / blocked / "x");
    const Outcome outcome = world().run(training.resume(run));
    check_error(outcome, {"yolo-train: ", fs::path(blocked).filename().string()});
    for (const auto& entry : fs::recursive_directory_iterator(run)) CHECK(entry.path().extension() != ".tmp");
    fs::remove_all(run / blocked);
    go_on(training, run);
    check_same(contents(whole), run);
  }
}

namespace {
/// The checkpoints in a run's weights/ that --resume would go on from.
std::size_t resumable(const fs::path& run) {
  std::size_t n = 0;
  for (const auto& entry : fs::directory_iterator(run / "weights"))
    n += frost::read_safetensors_metadata(entry.path()).contains("frost.training");
  return n;
}
}  // namespace

TEST_CASE("--exist-ok ends every run in the folder, or is ended itself before anything is replaced") {
  const fs::path run = world().dir / "reused" / "run";
  const Training older = detector("--epochs 3 --batch-size 4 --noplots --save-period 1");
  const Training newer = detector("--epochs 2 --batch-size 4 --noplots --seed 5");
  for (const bool finished : {false, true}) {
    CAPTURE(finished);
    fs::remove_all(run);
    if (finished)
      REQUIRE(world().run(older.start(run)).code == 0);
    else
      cut(older, run);
    const std::size_t before = resumable(run);
    CHECK(before >= 1);
    const std::string options = slurp(run / "opt.yaml"), last = slurp(Training::last_of(run));
    check_error(world().run("ulimit -f 8; " + newer.start(run)), {"cannot write ", "File too large"});
    CHECK(resumable(run) == before);
    CHECK(slurp(run / "opt.yaml") == options);
    CHECK((slurp(Training::last_of(run)) == last));
    REQUIRE(world().run(killed_at(newer.start(run), run, 1)).code == kKilled);
    REQUIRE(world().run(newer.start(run)).code == 0);
    CHECK(resumable(run) == 0);
    for (const auto& entry : fs::directory_iterator(run / "weights"))
      check_error(world().run(kBin + "yolo-train --resume " + entry.path().string()), {"training is finished"});
  }
}

TEST_CASE("--exist-ok and a place where the run cannot write: the run there can go on") {
  const fs::path kept = world().dir / "places" / "kept", run = world().dir / "places" / "run";
  const Training older = detector("--epochs 2 --batch-size 4 --noplots");
  const Training newer = detector("--epochs 1 --batch-size 4 --noplots --seed 5");
  cut(older, kept);
  const std::string last = slurp(Training::last_of(kept));
  for (const char* blocked : {"results.csv", "summary.json", "opt.yaml", "hyp.yaml", "weights/best.safetensors"}) {
    for (const bool pipe : {false, true}) {
      CAPTURE(blocked);
      CAPTURE(pipe);
      fs::remove_all(run);
      fs::copy(kept, run, fs::copy_options::recursive);
      fs::remove(run / blocked);
      if (pipe)
        REQUIRE(world().run("mkfifo " + (run / blocked).string()).code == 0);
      else
        fs::create_directories(run / blocked);
      check_error(world().run("timeout 60 " + newer.start(run)),
                  {std::string(blocked) + ": " + (pipe ? "not a regular file" : "is a folder, not a file")});
      CHECK((slurp(Training::last_of(run)) == last));
      if (std::string(blocked) != "opt.yaml") CHECK(slurp(run / "opt.yaml") == slurp(kept / "opt.yaml"));
    }
  }
}

TEST_CASE("--exist-ok and links in weights/: they become files, and the runs they point to can go on") {
  const fs::path other = world().dir / "linked" / "other", run = world().dir / "linked" / "run";
  const Training training = detector("--epochs 2 --batch-size 4 --noplots");
  cut(training, other);
  const std::string last = slurp(Training::last_of(other));
  fs::create_directories(run / "weights");
  for (const char* name : {"last", "best", "epoch1", "mine"})
    fs::create_symlink(Training::last_of(other), run / "weights" / (std::string(name) + ".safetensors"));
  check_error(world().run("ulimit -f 8; " + training.start(run)), {"cannot write ", "File too large"});
  for (const char* name : {"last", "best", "epoch1", "mine"})
    CHECK(fs::is_symlink(run / "weights" / (std::string(name) + ".safetensors")));
  REQUIRE(world().run(training.start(run)).code == 0);
  CHECK((slurp(Training::last_of(other)) == last));
  for (const auto& entry : fs::directory_iterator(run / "weights")) CHECK_FALSE(entry.is_symlink());
  CHECK(resumable(run) == 0);
  CHECK(world().run(training.resume(other)).code == 0);
}

TEST_CASE("--exist-ok over a run, killed at every third write: no checkpoint goes on under the new run's options") {
  const fs::path kept = world().dir / "over" / "kept", run = world().dir / "over" / "run";
  const Training older = detector("--epochs 3 --batch-size 4 --noplots --save-period 1");
  const Training newer = detector("--epochs 1 --batch-size 4 --noplots --seed 5");
  REQUIRE(world().run(older.start(kept)).code == 0);
  for (int step = 1;; step += 3) {
    CAPTURE(step);
    fs::remove_all(run);
    fs::copy(kept, run, fs::copy_options::recursive);
    const Outcome outcome = world().run(killed_at(newer.start(run), run, step));
    if (outcome.code == 0) break;
    REQUIRE(outcome.code == kKilled);
    const bool begun = has(slurp(run / "opt.yaml"), "seed: 5");
    if (!begun) continue;
    // Nothing of the older run stands beside the new one's options.
    for (int n = 0; n < 3; ++n)
      CHECK_FALSE(frost::read_safetensors_metadata(run / "weights" / ("epoch" + std::to_string(n) + ".safetensors"))
                      .contains("frost.training"));
    if (frost::read_safetensors_metadata(Training::last_of(run)).contains("frost.training"))
      CHECK(world().run(newer.resume(run)).code == 0);
    else
      check_error(world().run(newer.resume(run)), {"training is finished"});
    const std::string csv = slurp(run / "results.csv");
    CHECK(std::count(csv.begin(), csv.end(), '\n') <= 2);
    CHECK(slurp(run / "summary.json") != slurp(kept / "summary.json"));
  }
}

TEST_CASE("a resumed run neither takes an earlier run's best for its own nor removes it") {
  const fs::path run = world().dir / "earlier" / "run", best = run / "weights" / "best.safetensors";
  // The earlier best is of an epoch that the later run also has.
  REQUIRE(world().run(detector("--epochs 2 --batch-size 4 --noplots").start(run)).code == 0);
  const std::string earlier = slurp(best);
  for (const char* flags : {"--epochs 3 --nosave --seed 9", "--epochs 2 --nosave --noval --seed 9", "--epochs 2 --nosave"}) {
    CAPTURE(flags);
    const Training later = detector(std::string(flags) + " --batch-size 4 --noplots");
    fs::remove(Training::last_of(run));
    cut(later, run);
    const frost::SafetensorsFile begun = frost::read_safetensors(Training::last_of(run));
    for (const char* state : {"no best written", "validation interrupted"}) {
      CAPTURE(state);
      frost::SafetensorsFile last = begun;
      auto json = nlohmann::json::parse(last.metadata.at("frost.training"));
      json["is_best"] = false, json["written_best"] = -1;
      json["best_fitness"] = json["stopper_best"] = 0.9;
      json["validated"] = std::string(state) == "no best written";
      last.metadata["frost.training"] = json.dump();
      frost::write_safetensors(Training::last_of(run), last.tensors, last.metadata);
      write(best, earlier);
      const Outcome outcome = world().run(later.resume(run));
      CAPTURE(said(outcome));
      REQUIRE(outcome.code == 0);
      CHECK((slurp(best) == earlier));
      CHECK(has(outcome.out, "Validating " + Training::last_of(run).string()));
      CHECK_FALSE(nlohmann::json::parse(slurp(run / "summary.json")).at("files").contains("best.safetensors"));
    }
  }
}

TEST_CASE("--exist-ok and a checkpoint of a person's own: its tensors stay") {
  const fs::path run = world().dir / "own" / "run", mine = run / "weights" / "mine.safetensors";
  cut(detector("--epochs 2 --batch-size 4 --noplots"), run);
  const frost::SafetensorsFile last = frost::read_safetensors(Training::last_of(run));
  frost::StateDict first;
  first.add(last.tensors.begin()->first, last.tensors.begin()->second);
  for (const frost::StateDict& tensors : {last.tensors.below("ema."), first}) {
    frost::write_safetensors(mine, tensors, last.metadata);
    REQUIRE(world().run(detector("--epochs 1 --batch-size 4 --noplots --seed 3").start(run)).code == 0);
    const frost::SafetensorsFile after = frost::read_safetensors(mine);
    CHECK_FALSE(after.metadata.contains("frost.training"));
    REQUIRE(after.tensors.size() == tensors.size());
    for (const auto& [name, tensor] : tensors) CHECK((after.tensors.at(name).bytes == tensor.bytes));
  }
}

TEST_CASE("a best or an epochN that cannot be read does not hold a good last up") {
  const fs::path kept = world().dir / "corrupt" / "kept", run = world().dir / "corrupt" / "run";
  const Training training = detector("--epochs 4 --batch-size 4 --noplots --save-period 1");
  REQUIRE(world().run(training.start(kept)).code == 0);
  const auto whole = contents(kept);
  using Damage = void (*)(const fs::path&);
  const Damage damages[] = {[](const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); },
                            [](const fs::path& file) { write(file, ""); },
                            [](const fs::path& file) {  // a sound header: only reading the masks shows it
                              frost::SafetensorsFile sound = frost::read_safetensors(file);
                              frost::HostTensor wrong;
                              wrong.dtype = frost::DType::u8, wrong.shape = {1}, wrong.bytes.resize(1);
                              sound.metadata["frost.packed"] = R"({"x": [4]})";
                              sound.tensors.add("x.bits", wrong);
                              frost::write_safetensors(file, sound.tensors, sound.metadata);
                            },
                            [](const fs::path& file) { fs::remove(file), fs::create_symlink(file.filename(), file); }};
  for (const Damage corruption : damages) {
    for (const char* name : {"best", "epoch1", "epoch2"}) {
      CAPTURE(name);
      fs::remove_all(run);
      fs::copy(kept, run, fs::copy_options::recursive);
      fs::copy_file(run / "weights" / "epoch2.safetensors", Training::last_of(run), fs::copy_options::overwrite_existing);
      corruption(run / "weights" / (std::string(name) + ".safetensors"));
      const Outcome outcome = world().run(training.resume(run));
      CAPTURE(said(outcome));
      CHECK(outcome.code == 0);
      CHECK(fs::exists(run / "summary.json"));
      if (std::string(name) != "epoch1") check_same(whole, run);
    }
  }
}

TEST_CASE("resumed from epochN, best goes back too: to that epoch's file, to an earlier one's, or it is removed") {
  const fs::path run = world().dir / "back" / "run", best = run / "weights" / "best.safetensors";
  const auto epoch_file = [&](int n) { return run / "weights" / ("epoch" + std::to_string(n) + ".safetensors"); };
  const Training training = detector("--epochs 5 --batch-size 4 --noplots --save-period 1");
  const auto own = [&] { return frost::read_safetensors_metadata(best).at("frost.epoch"); };
  REQUIRE(world().run(training.start(run)).code == 0);
  const auto whole = contents(run);
  REQUIRE(world().run(kBin + "yolo-train --resume " + epoch_file(2).string()).code == 0);
  check_same(whole, run);
  // A state whose best epoch is an earlier one, and so good that none comes up to it.
  frost::SafetensorsFile file = frost::read_safetensors(epoch_file(3));
  auto state = nlohmann::json::parse(file.metadata.at("frost.training"));
  state["is_best"] = false, state["best_epoch"] = 1, state["best_fitness"] = state["stopper_best"] = 0.9;
  state["best"]["epoch"] = state["written_best"] = 1;
  file.metadata["frost.training"] = state.dump();
  frost::write_safetensors(run / "weights" / "edited.safetensors", file.tensors, file.metadata);
  const std::string resume = kBin + "yolo-train --resume " + (run / "weights" / "edited.safetensors").string();
  CHECK(own() != "1");
  const Outcome rebuilt = world().run(resume);
  CAPTURE(said(rebuilt));
  REQUIRE(rebuilt.code == 0);
  CHECK(own() == "1");
  // Nothing holds epoch 1 any more.
  REQUIRE(world().run(kBin + "yolo-train --resume " + epoch_file(2).string()).code == 0);
  CHECK(own() != "1");
  fs::remove(epoch_file(1));
  const Outcome lost = world().run(resume);
  CAPTURE(said(lost));
  REQUIRE(lost.code == 0);
  CHECK_FALSE(fs::exists(best));
  CHECK(has(lost.out, "best.safetensors: of epoch "));
  CHECK(has(lost.out, "is removed: epoch 1, the best so far, is in no file"));
  CHECK(nlohmann::json::parse(slurp(run / "summary.json")).at("files").contains("last.safetensors"));
}

TEST_CASE("yolo-prune, killed at each of its writes, leaves the old file or the new one") {
  const fs::path run = world().dir / "pruned" / "run", folder = world().dir / "pruned" / "out",
                 out = folder / "o.safetensors";
  REQUIRE(world().run(detector("--epochs 1 --batch-size 4 --noplots").start(run)).code == 0);
  const std::string prune = kBin + "yolo-prune --weights " + Training::last_of(run).string() + " --save " + out.string();
  REQUIRE(world().run(prune + " --amount 0.5").code == 0);
  const std::string whole = slurp(out);
  for (const std::string& old : {std::string(), whole.substr(0, 100)}) {
    for (int step = 1;; ++step) {
      CAPTURE(step);
      fs::remove_all(folder);
      fs::create_directories(folder);
      if (!old.empty()) write(out, old);
      const Outcome outcome = world().run(killed_at(prune + " --amount 0.5", folder, step));
      CHECK((slurp(out) == whole || (outcome.code == kKilled && slurp(out) == old)));
      if (outcome.code == 0) break;
      REQUIRE(outcome.code == kKilled);
      CHECK(world().run(prune + " --amount 0.5").code == 0);
      CHECK((slurp(out) == whole));
    }
  }
}

TEST_CASE("a resumed run refuses what is no file where its own files are to be, and goes on when it is gone") {
  const fs::path run = world().dir / "pipe" / "run";
  const Training training = detector("--epochs 2 --batch-size 4 --noplots");
  for (const char* name : {"results.csv", "opt.yaml", "hyp.yaml"}) {
    CAPTURE(name);
    fs::remove_all(run);
    cut(training, run);
    if (fs::exists(run / name)) fs::rename(run / name, run / "aside");
    REQUIRE(world().run("mkfifo " + (run / name).string()).code == 0);
    check_error(world().run("timeout 60 " + training.resume(run)), {std::string(name) + ": not a regular file"});
    fs::remove(run / name);
    if (fs::exists(run / "aside")) fs::rename(run / "aside", run / name);
    CHECK(world().run(training.resume(run)).code == 0);
  }
}
