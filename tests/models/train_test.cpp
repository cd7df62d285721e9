#include "models/families/train.h"

#include <doctest/doctest.h>

#include <csignal>
#include <thread>

#include "engine/base/interrupt.h"
#include "engine/checkpoint/module_state.h"
#include "models/families/load_model.h"
#include "models/yolo/shapes_dataset.h"
#include "tests/device.h"
#include "tests/models/stripes.h"
#include "tests/models/temp_dataset.h"

// What frost::train promises a program that calls it.
using namespace frost;
using frost::testing::TestDevice;

namespace {

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}
bool same(const StateDict& a, const StateDict& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) { return x == y; });
}
std::string shapes_in(const test::TempDir& dir) {
  write_shapes_dataset(dir / "shapes", {.imgsz = 64}, 8, 4);
  return (dir / "shapes/shapes.yaml").string();
}

}  // namespace

TEST_CASE("train: a detector gets the best epoch's weights and the data's classes; what is frozen stays") {
  const test::TempDir dir;
  TestDevice device;
  const DetectionData data(shapes_in(dir));
  const auto model = make_model(device, "yolov5n", 2);
  model->freeze({"backbone"});
  const StateDict before = state_of(*model);
  const TrainResult run =
      train(*model, data, {.epochs = 2, .batch_size = 4, .imgsz = 64, .workers = 1, .project = dir / "runs"});
  CHECK(model->names == data.names);
  CHECK(model->classes() == static_cast<int>(data.names.size()));
  CHECK(run.summary.epochs == 2);
  CHECK(std::filesystem::exists(run.folder / "results.csv"));
  CHECK(same(state_of(*model), state_of(*load_model(device, (run.folder / "weights/best.safetensors").string()))));
  const StateDict after = state_of(*model);
  std::size_t kept = 0, moved = 0;
  for (const auto& [name, tensor] : before) {
    if (name.find("anchors") != std::string::npos) continue;
    const int layer = std::stoi(name.substr(name.find('.') + 1));
    (layer < 10 ? kept : moved) += (after.at(name) == tensor) == (layer < 10);
    if (layer < 10) CHECK_MESSAGE((after.at(name) == tensor), name);
  }
  CHECK(kept > 50);
  CHECK(moved > 50);
  // Once more, from there.
  CHECK(train(*model, data, {.epochs = 1, .batch_size = 4, .imgsz = 64, .project = dir / "runs"}).folder != run.folder);
}

TEST_CASE("train: a classifier the same") {
  const test::TempDir dir;
  TestDevice device;
  frost::testing::write_stripes(dir / "stripes", 0, 3, 2);
  const ClassificationData data((dir / "stripes").string());
  const auto model = make_model(device, "resnet18", 7);
  model->freeze({"!fc"});
  const TrainResult run =
      train(*model, data, {.epochs = 1, .batch_size = 4, .imgsz = 64, .lr0 = 0.01, .workers = 1, .project = dir / "runs"});
  CHECK(model->names == data.names);
  CHECK(same(state_of(*model), state_of(*load_model(device, (run.folder / "weights/best.safetensors").string()))));
  CHECK(run.summary.trainable ==
        512 * static_cast<std::int64_t>(data.names.size()) + static_cast<std::int64_t>(data.names.size()));
}

TEST_CASE("train: where it throws, the model is as it was") {
  const test::TempDir dir;
  TestDevice device;
  const std::string yaml = shapes_in(dir);
  const DetectionData data(yaml);
  const auto model = make_model(device, "yolov5n", 2);
  const auto names = model->names;
  const StateDict before = state_of(*model);
  const TrainOptions good{.epochs = 1, .batch_size = 4, .imgsz = 64, .workers = 1, .project = dir / "runs"};
  const std::string anchors = dir.write("anchors.yaml", [] {
    std::string text;
    for (const char* line : {"lr0: 0.01", "lrf: 0.01", "anchors: 3"}) text += std::string(line) + "\n";
    return text;
  }());
  struct Case {
    std::function<void(TrainOptions&)> edit;
    std::string said;
  };
  for (const Case& c : {
           Case{[](TrainOptions& o) { o.epochs = -1; }, "train: epochs: must be at least 1 (given: -1)"},
           {[](TrainOptions& o) { o.batch_size = -1; }, "train: batch_size: must be at least 1 (given: -1)"},
           {[](TrainOptions& o) { o.imgsz = 5; }, "train: imgsz: must be at least 32 (given: 5)"},
           {[](TrainOptions& o) { o.workers = -2; }, "train: workers"},
           {[](TrainOptions& o) { o.optimizer = "adamm"; }, "adamm"},
           {[](TrainOptions& o) { o.lr0 = 0.1; }, "train: lr0"},
           {[](TrainOptions& o) { o.cache = "disk"; }, "train: cache"},
           {[](TrainOptions& o) { o.precision = "f99"; }, "f99"},
           {[](TrainOptions& o) { o.unfreeze_at = {"x"}; }, "x"},
           {[](TrainOptions& o) { o.prune_schedule = "0.5"; }, "0.5"},
           {[](TrainOptions& o) { o.hyp = "no such hyp"; }, "no such hyp"},
           {[&](TrainOptions& o) { o.hyp = anchors; }, "anchors"},
           {[&](TrainOptions& o) { o.project = yaml; }, "shapes.yaml"},
       }) {
    TrainOptions options = good;
    c.edit(options);
    const std::string said = error_of([&] { train(*model, data, options); });
    CHECK_MESSAGE(said.find(c.said) != std::string::npos, said << " instead of " << c.said);
    CHECK(model->names == names);
    CHECK(same(state_of(*model), before));
  }
  CHECK_FALSE(std::filesystem::exists(dir / "runs"));
  frost::testing::write_stripes(dir / "stripes", 0, 3, 2);
  CHECK(error_of([&] { train(*model, ClassificationData((dir / "stripes").string()), good); }) != "no error");
}

TEST_CASE("train: two threads, each with a device of its own") {
  if (!frost::testing::on_cpu()) return;
  const test::TempDir dir;
  frost::testing::write_stripes(dir / "stripes", 0, 3, 2);
  std::array<std::string, 2> said;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 2; ++i)
    threads.emplace_back([&, i] {
      said[i] = error_of([&] {
        Device device("cpu");
        const auto model = make_model(device, "resnet18", 2, i);
        const StateDict start = state_of(*model);
        const TrainOptions options{
            .epochs = 1, .batch_size = 4, .imgsz = 64, .workers = 1, .project = dir / std::to_string(i)};
        model->freeze({"!fc"});
        train(*model, ClassificationData((dir / "stripes").string()), options);
        // The frozen layers are this thread's own.
        FROST_CHECK(state_of(*model).at("conv1.weight") == start.at("conv1.weight"), "another model's weights");
      });
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : said) CHECK(text == "no error");
}

namespace {
extern "C" void own_handler(int) {}
}  // namespace

TEST_CASE("signals: a program's own handlers stay; others are as before when the last guard has gone") {
  const auto handler = [] {
    struct sigaction now {};
    sigaction(SIGINT, nullptr, &now);
    return now.sa_handler;
  };
  const auto usual = handler();
  {
    std::signal(SIGINT, own_handler);
    const InterruptGuard guard;
    CHECK((handler() == own_handler));
  }
  CHECK((handler() == own_handler));
  std::signal(SIGINT, SIG_DFL);
  {
    const InterruptGuard outer;
    const auto ours = handler();
    CHECK((ours != SIG_DFL));
    { const InterruptGuard inner; }
    CHECK((handler() == ours));
    std::raise(SIGINT);
    CHECK(InterruptGuard::requested());
    CHECK((handler() == SIG_DFL));  // a second one ends the process
  }
  CHECK((handler() == SIG_DFL));
  std::signal(SIGINT, usual);
}
