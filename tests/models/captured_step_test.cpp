#include "engine/training/captured_step.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/training/updater.h"
#include "models/classify/step.h"
#include "models/classify/validator.h"
#include "models/slim/freeze.h"
#include "models/yolo/step.h"
#include "tests/device.h"
#include "tests/kernels/emulated_backend.h"
#include "tests/recording_backend.h"

// Captured training is eager training, bit for bit. Where the device cannot capture it is wrapped in one that records calls
// and runs them again, so what is proven is the engine's part: fixed memory, nothing of the host inside, weights converted
// anew by each replay, the host's counters, the memory pool. What a real stream capture allows is shown on a GPU alone.
using namespace frost;
using frost::testing::RecordingBackend;

namespace {

constexpr std::int64_t kSide = 64;

/// Batches of noise: of two sizes, the last one of each epoch smaller, with few and with many targets.
struct Batch {
  std::int64_t n = 0, h = 0, w = 0;
  std::vector<std::uint8_t> pixels;
  std::vector<float> targets;
  std::int64_t target_count() const { return static_cast<std::int64_t>(targets.size() / 6); }
};
Batch batch_number(std::int64_t number) {
  Rng rng(100 + static_cast<std::uint64_t>(number));
  Batch batch;
  batch.n = number % 5 == 4 ? 1 : 2;
  batch.h = kSide;
  batch.w = number % 7 == 6 ? kSide + 32 : kSide;
  batch.pixels.resize(static_cast<std::size_t>(batch.n * batch.h * batch.w * 3));
  for (std::uint8_t& p : batch.pixels) p = static_cast<std::uint8_t>(rng.next());
  for (std::int64_t t = 0; t < (number == 0 || number % 6 == 5 ? 20 : 3 * batch.n); ++t)
    for (const double value : {static_cast<double>(t % batch.n), std::floor(rng.uniform(0, 3)), rng.uniform(0.2, 0.8),
                               rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5)})
      batch.targets.push_back(static_cast<float>(value));
  return batch;
}

struct Recipe {
  int freeze = 0;
  OptimizerKind optimizer = OptimizerKind::sgd;
  bool loss_scaling = false, spoil = false;  // spoil: gradients overflow in step 7
  DType compute = DType::f32;
};

/// A device that captures and computes in the recipe's type: no CPU does in f16, CUDA's kernels on the host do.
std::unique_ptr<Backend> capturing(DType compute) {
  std::unique_ptr<Backend> device = frost::testing::make_device_backend(true);
  if (!device->supports(compute)) device = frost::testing::make_emulated_backend(false, frost::testing::HostAccess::open);
  return device->can_capture() ? std::move(device) : std::make_unique<RecordingBackend>(std::move(device));
}

struct Outcome {
  std::vector<std::vector<float>> losses, values;
  std::vector<std::int64_t> counters;
  UpdateState state;
  std::int64_t step_replays = 0;
  bool recorded = false;  // by a RecordingBackend, which knows the rest
  std::int64_t captures = 0, replays = 0, eager_calls = 0;
};

/// A model in training: all but its family's step.
struct Training {
  Device& device;
  Module& model;
  ParameterArena arena{device, model, 5e-4f, true};
  ModelAverage average{device, model, arena, [](const Buffer& b) { return b.name.find("running_") != std::string::npos; }};
  Updater updater;
  CapturedStep work;
  Outcome outcome;

  Training(Device& on, Module& trained, bool capture, const Recipe& recipe)
      : device(on),
        model(trained),
        updater(device, arena, average, schedule(), recipe.optimizer, 10, recipe.loss_scaling, capture),
        work(device, &model, capture) {
    if (recipe.compute != DType::f16) return;
    UpdateState state = updater.optimizer().state();  // so that no step is lost while the scale finds its size
    state.loss_scale.scale = 16;
    updater.restore(0, -1, state);
  }
  static ScheduleConfig schedule() {
    ScheduleConfig schedule;
    schedule.epochs = 4, schedule.batches_per_epoch = 5, schedule.batch_size = 2, schedule.nominal_batch = 8;
    schedule.minimum_warmup = 1, schedule.warmup_epochs = 0;  // the usual batch is captured between two steps
    return schedule;
  }
  void begin(int i) {
    if (i % 5 == 0) updater.begin_epoch();
    updater.begin_batch(i / 5, i % 5);
  }
  void end(int i, const Recipe& recipe) {
    if (recipe.spoil && i == 7) {  // as an overflow of f16 would
      ParameterGroup& weights = arena.groups()[ParameterArena::kWeight];
      std::vector<float> grad = weights.grad.to_vector();
      grad[5] = std::numeric_limits<float>::infinity();
      weights.grad.assign(grad);
    }
    updater.end_batch();
  }
  Outcome finish() {
    model.visit({.parameter = [&](Parameter& p) { outcome.values.push_back(p.value.to_vector()); },
                 .buffer = [&](Buffer& b) { outcome.values.push_back(b.value.to_vector()); },
                 .counter = [&](Counter& c) { outcome.counters.push_back(c.value); }});
    const StateDict averaged = average.state();
    for (const auto& [name, tensor] : averaged) outcome.values.push_back(tensor.to_f32());
    outcome.state = updater.optimizer().state();
    outcome.step_replays = work.replays();
    if (const auto* recording = dynamic_cast<RecordingBackend*>(&device.backend())) {
      outcome.recorded = true;
      outcome.captures = recording->captures, outcome.replays = recording->replays;
      outcome.eager_calls = recording->eager_calls;
    }
    return std::move(outcome);
  }
};

Outcome train_detector(bool capture, const Recipe& recipe) {
  Device device(capturing(recipe.compute));
  DetectionModel model(device, load_model_spec("yolov5n", 3), 1);
  slim::freeze(model, slim::layer_names(model), {std::to_string(recipe.freeze)});
  Training training(device, model, capture, recipe);
  std::map<CapturedStep::Key, yolo::LossState> losses;
  std::map<Shape, Tensor> inputs;
  for (int i = 0; i < 20; ++i) {
    training.begin(i);
    const Batch batch = batch_number(i);
    const Shape shape{batch.n, batch.h, batch.w, 3};
    const std::int64_t capacity = batch.target_count() > 8 ? 32 : 8;
    const CapturedStep::Key key{shape.n, shape.h, shape.w, capacity};
    yolo::LossState& loss = losses.try_emplace(key, device, yolo::LossSettings{}, capacity).first->second;
    if (recipe.loss_scaling) loss.grad_scale = training.updater.optimizer().loss_scale();
    loss.set_targets(batch.targets, batch.n, 3);
    Tensor& pixels = inputs[shape];
    if (!pixels) pixels = Tensor(device, shape, DType::u8, Role::input);
    device.backend().upload(pixels.data(), batch.pixels.data(), batch.pixels.size());
    training.work.run(key, [&] {
      const Tensor x = yolo::normalised(device, pixels, recipe.compute);
      yolo::train_step({.device = device, .compute = recipe.compute}, model, x, loss);
    });
    training.end(i, recipe);
    training.outcome.losses.push_back(loss.items().to_vector());
    if (i == 12) {  // an eager pass between replays: it must see the present weights, and leave the next replay alone
      Context context{.device = device, .compute = recipe.compute};
      for (const Var& map : model.heads(context, {yolo::normalised(device, pixels, recipe.compute), -1, nullptr}))
        training.outcome.values.push_back(map.value.to_vector());
    }
  }
  return training.finish();
}

/// With dropout, whose choices are new in each step.
Outcome train_classifier(bool capture, const Recipe& recipe) {
  constexpr std::int64_t kClassifierSide = 32;
  Device device(capturing(recipe.compute));
  const auto model = classify::make_classifier(device, "yolov5n-cls", 5, 1);
  model->set_dropout(0.3f);
  slim::freeze(*model, model->layers(), {std::to_string(recipe.freeze)});
  Training training(device, *model, capture, recipe);
  const classify::Normaliser normalise(device, model->preprocessing());
  std::map<std::int64_t, classify::LossState> losses;
  std::map<std::int64_t, Tensor> inputs;
  for (int i = 0; i < 20; ++i) {
    training.begin(i);
    Rng rng(200 + static_cast<std::uint64_t>(i));
    const std::int64_t n = i % 5 == 4 ? 2 : 4;
    classify::LossState& loss = losses.try_emplace(n, device, n, 0.1f).first->second;
    if (recipe.loss_scaling) loss.grad_scale = training.updater.optimizer().loss_scale();
    std::vector<std::int64_t> labels;
    for (std::int64_t k = 0; k < n; ++k) labels.push_back(rng.below(5));
    loss.set_labels(labels);
    loss.set_seed(rng.next());
    Tensor& pixels = inputs[n];
    if (!pixels) pixels = Tensor(device, {n, kClassifierSide, kClassifierSide, 3}, DType::u8, Role::input);
    std::vector<std::uint8_t> rgb(static_cast<std::size_t>(pixels.elements()));
    for (std::uint8_t& p : rgb) p = static_cast<std::uint8_t>(rng.next());
    device.backend().upload(pixels.data(), rgb.data(), rgb.size());
    training.work.run({n}, [&] {
      classify::train_step({.device = device, .compute = recipe.compute}, *model, normalise(pixels, recipe.compute), loss);
    });
    training.end(i, recipe);
    training.outcome.losses.push_back(loss.value().to_vector());
  }
  return training.finish();
}

void check_same(Outcome (*train)(bool, const Recipe&), const Recipe& recipe) {
  const Outcome eager = train(false, recipe), captured = train(true, recipe);
  CHECK(eager.step_replays == 0);
  CHECK(captured.step_replays >= 8);  // the usual batch comes ten times: run, captured, replayed
  if (captured.recorded) {
    CHECK(eager.captures == 0);
    CHECK(captured.captures >= 2);  // the usual batch, and the optimizer's work
    CHECK(captured.replays >= 10);
    CHECK(captured.eager_calls < eager.eager_calls);
  }
  CHECK((captured.losses == eager.losses));
  CHECK((captured.values == eager.values));
  CHECK(captured.counters == eager.counters);
  CHECK(captured.state.steps == eager.state.steps);
  CHECK(captured.state.skipped == eager.state.skipped);
  CHECK(captured.state.norm == eager.state.norm);
  CHECK(captured.state.loss_scale.scale == eager.state.loss_scale.scale);
  CHECK(eager.state.steps > 0);
  CHECK(eager.state.skipped == (recipe.spoil ? 1 : 0));
}

}  // namespace

TEST_CASE("20 training steps, captured and replayed, equal 20 eager ones bit for bit") {
  SUBCASE("everything trained") { check_same(train_detector, {}); }
  SUBCASE("a frozen backbone") { check_same(train_detector, {.freeze = 10}); }
  SUBCASE("Adam, loss scaling, one overflow") {
    check_same(train_detector, {.freeze = 10, .optimizer = OptimizerKind::adam, .loss_scaling = true, .spoil = true});
  }
  SUBCASE("f16") { check_same(train_detector, {.loss_scaling = true, .compute = DType::f16}); }
  SUBCASE("a classifier with dropout") { check_same(train_classifier, {}); }
  SUBCASE("a classifier: a frozen backbone, Adam, loss scaling, one overflow") {
    check_same(train_classifier, {.freeze = 9, .optimizer = OptimizerKind::adam, .loss_scaling = true, .spoil = true});
  }
  SUBCASE("a classifier in f16") { check_same(train_classifier, {.loss_scaling = true, .compute = DType::f16}); }
}

TEST_CASE("a capture that fails leaves the device usable and tells the first error") {
  Device device(std::make_unique<RecordingBackend>(frost::testing::make_device_backend()));
  CapturedStep work(device, nullptr, true);
  const Tensor x = Tensor::from(device, {1, 1, 1, 2}, {1, 2});
  Tensor y = Tensor::zeros(device, {1, 1, 1, 2});
  const auto reads = [&] {
    device.backend().copy({.x = x, .y = y});
    x.to_vector();  // waits: cannot be captured
  };
  work.run({1}, reads);
  CHECK_THROWS_WITH(work.run({1}, reads), "capture: the host waits");
  work.run({2}, [&] { device.backend().copy({.x = x, .y = y}); });
  CHECK(y.to_vector() == std::vector<float>{1, 2});
}

TEST_CASE("switched off, or on a device that cannot capture, the work is simply run") {
  for (const bool can : {true, false}) {
    Device device(can ? std::make_unique<RecordingBackend>() : make_cpu_backend());  // computes nothing
    CapturedStep work(device, nullptr, !can);
    CHECK_FALSE(work.captures());
    int runs = 0;
    for (int i = 0; i < 4; ++i) work.run({1}, [&] { ++runs; });
    CHECK(runs == 4);
  }
}
