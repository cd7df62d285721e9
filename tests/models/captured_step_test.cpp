#include "engine/training/captured_step.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/training/updater.h"
#include "models/slim/freeze.h"
#include "models/yolo/step.h"
#include "tests/recording_backend.h"

// Captured training is eager training, bit for bit. The device is a CPU that records calls and runs them again, so what is
// proven is the engine's part: fixed memory, nothing of the host inside, weights converted anew by each replay, the host's
// counters, the memory pool. What a real stream capture allows is kernels/cuda's part.
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

struct Outcome {
  std::vector<std::vector<float>> losses, values;
  std::vector<std::int64_t> counters;
  UpdateState state;
  std::int64_t captures = 0, replays = 0, eager_calls = 0;
};

struct Recipe {
  int freeze = 0;
  OptimizerKind optimizer = OptimizerKind::sgd;
  bool loss_scaling = false, spoil = false;  // spoil: gradients overflow in step 7
  DType compute = DType::f32;
};

Outcome train(bool capture, const Recipe& recipe, int steps = 20) {
  auto owned = std::make_unique<RecordingBackend>();
  RecordingBackend& backend = *owned;
  Device device(std::move(owned));
  DetectionModel model(device, load_model_spec("yolov5n", 3), 1);
  slim::freeze(model, slim::layer_names(model), {std::to_string(recipe.freeze)});
  ParameterArena arena(device, model, 5e-4f, true);
  ModelAverage average(device, model, arena, [](const Buffer& b) { return b.name.find("running_") != std::string::npos; });
  ScheduleConfig schedule;
  schedule.epochs = 4, schedule.batches_per_epoch = 5, schedule.batch_size = 2, schedule.nominal_batch = 8;
  schedule.minimum_warmup = 1, schedule.warmup_epochs = 0;  // the usual batch is captured between two steps
  Updater updater(device, arena, average, schedule, recipe.optimizer, 10, recipe.loss_scaling, capture);
  CapturedStep work(device, &model, capture);
  std::map<CapturedStep::Key, yolo::LossState> losses;
  std::map<Shape, Tensor> inputs;
  Outcome outcome;
  for (int i = 0; i < steps; ++i) {
    if (i % 5 == 0) updater.begin_epoch();
    updater.begin_batch(i / 5, i % 5);
    const Batch batch = batch_number(i);
    const Shape shape{batch.n, batch.h, batch.w, 3};
    const std::int64_t capacity = batch.target_count() > 8 ? 32 : 8;
    const CapturedStep::Key key{shape.n, shape.h, shape.w, capacity};
    yolo::LossState& loss = losses.try_emplace(key, device, yolo::LossSettings{}, capacity).first->second;
    if (recipe.loss_scaling) loss.grad_scale = updater.optimizer().loss_scale();
    loss.set_targets(batch.targets, batch.n, 3);
    Tensor& pixels = inputs[shape];
    if (!pixels) pixels = Tensor(device, shape, DType::u8, Role::input);
    backend.upload(pixels.data(), batch.pixels.data(), batch.pixels.size());
    work.run(key, [&] {
      const Tensor x = yolo::normalised(device, pixels, recipe.compute);
      yolo::train_step({.device = device, .compute = recipe.compute}, model, x, loss);
    });
    if (recipe.spoil && i == 7) {  // as an overflow of f16 would
      ParameterGroup& weights = arena.groups()[ParameterArena::kWeight];
      std::vector<float> grad = weights.grad.to_vector();
      grad[5] = std::numeric_limits<float>::infinity();
      weights.grad.assign(grad);
    }
    updater.end_batch();
    outcome.losses.push_back(loss.items().to_vector());
    if (i == 12) {  // an eager pass between replays: it must see the present weights, and leave the next replay alone
      Context context{.device = device, .compute = recipe.compute};
      for (const Var& map : model.heads(context, {yolo::normalised(device, pixels, recipe.compute), -1, nullptr}))
        outcome.values.push_back(map.value.to_vector());
    }
  }
  model.visit({.parameter = [&](Parameter& p) { outcome.values.push_back(p.value.to_vector()); },
               .buffer = [&](Buffer& b) { outcome.values.push_back(b.value.to_vector()); },
               .counter = [&](Counter& c) { outcome.counters.push_back(c.value); }});
  const StateDict averaged = average.state();
  for (const auto& [name, tensor] : averaged) outcome.values.push_back(tensor.to_f32());
  outcome.state = updater.optimizer().state();
  outcome.captures = backend.captures, outcome.replays = backend.replays, outcome.eager_calls = backend.eager_calls;
  return outcome;
}

void check_same(const Recipe& recipe) {
  const Outcome eager = train(false, recipe), captured = train(true, recipe);
  CHECK(eager.captures == 0);
  CHECK(captured.captures >= 2);  // the usual batch, and the optimizer's work
  CHECK(captured.replays >= 10);
  CHECK(captured.eager_calls < eager.eager_calls);
  CHECK((captured.losses == eager.losses));
  CHECK((captured.values == eager.values));
  CHECK(captured.counters == eager.counters);
  CHECK(captured.state.steps == eager.state.steps);
  CHECK(captured.state.skipped == eager.state.skipped);
  CHECK(captured.state.norm == eager.state.norm);
  CHECK(captured.state.loss_scale.scale == eager.state.loss_scale.scale);
  CHECK(eager.state.skipped == (recipe.spoil ? 1 : 0));
}

}  // namespace

TEST_CASE("20 training steps, captured and replayed, equal 20 eager ones bit for bit") {
  SUBCASE("everything trained") { check_same({}); }
  SUBCASE("a frozen backbone") { check_same({.freeze = 10}); }
  SUBCASE("Adam, loss scaling, one overflow") {
    check_same({.freeze = 10, .optimizer = OptimizerKind::adam, .loss_scaling = true, .spoil = true});
  }
}

TEST_CASE("a capture that fails leaves the device usable and tells the first error") {
  auto owned = std::make_unique<RecordingBackend>();
  Device device(std::move(owned));
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
    Device device(can ? std::make_unique<RecordingBackend>() : make_cpu_backend());
    CapturedStep work(device, nullptr, !can);
    CHECK_FALSE(work.captures());
    int runs = 0;
    for (int i = 0; i < 4; ++i) work.run({1}, [&] { ++runs; });
    CHECK(runs == 4);
  }
}
