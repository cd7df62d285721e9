#include "engine/training/captured_step.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/training/updater.h"
#include "models/classify/step.h"
#include "models/classify/validator.h"
#include "models/freeze.h"
#include "models/run/inference.h"
#include "models/yolo/evaluation/validator.h"
#include "models/yolo/training/step.h"
#include "models/yolo/training/task.h"
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

std::vector<std::uint8_t> noise_pixels(Rng&& rng, const Shape& shape) {
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(shape.elements()));
  for (std::uint8_t& p : rgb) p = static_cast<std::uint8_t>(rng.next());
  return rgb;
}

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
  ModelEma ema{device, model, arena, [](const Buffer& b) { return b.name.find("running_") != std::string::npos; }};
  Updater updater;
  CapturedStep work;
  Outcome outcome;

  Training(Device& on, Module& trained, bool capture, const Recipe& recipe)
      : device(on),
        model(trained),
        updater(device, arena, ema, schedule(), recipe.optimizer, 10, recipe.loss_scaling, capture),
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
    const StateDict averaged = ema.state();
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
  frost::freeze(model, model.layers(), {std::to_string(recipe.freeze)});
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

/// A classifier's images to validate on: the last batch is smaller.
std::unique_ptr<classify::ImageLoader> validation_images(std::int64_t side) {
  const auto open = [side](classify::ImageBatch& batch, std::int64_t, std::int64_t number) -> std::int64_t {
    batch.n = number == 3 ? 2 : 4, batch.side = side;
    batch.pixels = noise_pixels(Rng(300 + static_cast<std::uint64_t>(number)), {batch.n, side, side, 3});
    batch.labels.clear();
    for (std::int64_t i = 0; i < batch.n; ++i) batch.labels.push_back((number + i) % 5);
    return 0;  // nothing is left to do for each image
  };
  return std::make_unique<classify::ImageLoader>(
      BatchSource<classify::ImageBatch>{.batches = 4, .open = open, .item = {}, .close = {}});
}

/// With dropout, whose choices are new in each step, and a validation of the average after each epoch.
Outcome train_classifier(bool capture, const Recipe& recipe) {
  constexpr std::int64_t kClassifierSide = 32;
  Device device(capturing(recipe.compute));
  const auto model = classify::make_classifier(device, "yolov5n-cls", 5, 1);
  model->set_dropout(0.3f);
  frost::freeze(*model, model->layers(), {std::to_string(recipe.freeze)});
  Training training(device, *model, capture, recipe);
  const classify::Normaliser normalise(device, model->preprocessing());
  std::map<std::int64_t, classify::LossState> losses;
  std::map<std::int64_t, Tensor> inputs;
  const auto ema_model = classify::make_classifier(device, "yolov5n-cls", 5, {});
  const auto val = validation_images(kClassifierSide);
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
    const std::vector<std::uint8_t> rgb = noise_pixels(std::move(rng), pixels.shape());
    device.backend().upload(pixels.data(), rgb.data(), rgb.size());
    training.work.run({n}, [&] {
      classify::train_step({.device = device, .compute = recipe.compute}, *model, normalise(pixels, recipe.compute), loss);
    });
    training.end(i, recipe);
    training.outcome.losses.push_back(loss.value().to_vector());
    if (i % 5 < 4) continue;
    training.ema.alias(*ema_model);
    const classify::Accuracy accuracy =
        classify::validate(device, *ema_model, *val,
                           {.compute = recipe.compute,
                            .cuda_graph = capture,
                            .label_smoothing = 0.1f,
                            .label = "",
                            .batch_done = [&](std::int64_t, const classify::ImageBatch&, const std::vector<float>& p) {
                              training.outcome.values.push_back(p);
                            }});
    training.outcome.losses.push_back({static_cast<float>(accuracy.loss)});
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

TEST_CASE("inference: what comes again is replayed, what comes once is run, and new weights are seen") {
  Device device(capturing(DType::f32));
  const auto model = classify::make_classifier(device, "yolov5n-cls", 5, 1);
  run::Inference captured = classify::inference(device, *model, DType::f32, true),
                 eager = classify::inference(device, *model, DType::f32, false);
  const auto logits = [](run::Inference& network, std::int64_t n, std::uint64_t seed) {
    const Shape shape{n, 32, 32, 3};
    network.load(shape, noise_pixels(Rng(seed), shape));
    return network.run().front().value.to_vector();
  };
  const auto same = [&](std::int64_t n, std::uint64_t seed) {
    const std::vector<float> expected = logits(eager, n, seed);
    CHECK((logits(captured, n, seed) == expected));
    return expected;
  };
  for (std::uint64_t seed = 0; seed < 4; ++seed) same(4, seed);
  CHECK(captured.replays() == 2);  // run, recorded, replayed twice
  same(2, 4);                      // a last batch
  CHECK(captured.replays() == 2);
  const std::vector<float> before = same(4, 5);
  CHECK(captured.replays() == 3);

  // As an optimizer or an average leaves it: other values in the same memory. The first block is fused.
  Parameter& first = *model->parameters().front();
  std::vector<float> values = first.value.to_vector();
  for (float& value : values) value *= 2;
  first.value.assign(values);
  first.touch();
  const std::vector<float> moved = same(4, 5);
  CHECK((moved != before));
  CHECK(captured.replays() == 3);
  same(4, 6), same(4, 7);
  CHECK(captured.replays() == 4);

  // As an arena leaves it: the same values in other memory, and something else where they were.
  Parameter& head = model->head().weight;
  head.value = Tensor::from(device, head.value.shape(), head.value.to_vector(), Role::parameter);
  head.touch();
  const Tensor zeros = Tensor::zeros(device, head.value.shape());
  CHECK((same(4, 5) == moved));
  same(4, 6), same(4, 7);
  CHECK(captured.replays() == 5);
  CHECK(eager.replays() == 0);
}

TEST_CASE("inference: of many shapes few captured graphs are kept; their memory is in the accounts and is given back") {
  struct Most {
    std::int64_t bytes = 0, recordings = 0, replays = 0;
  };
  const auto most = [](std::int64_t first, std::int64_t last) {
    auto owned = std::make_unique<RecordingBackend>(frost::testing::make_device_backend());
    RecordingBackend& backend = *owned;
    Device device(std::move(owned));
    Sequential model;
    for (const auto& [in, out] : {std::pair{3, 8}, {8, 4}}) {
      auto conv = std::make_unique<Conv2d>(device, in, out, ConvGeometry{}, true);
      Rng rng(1);
      conv->initialise(rng);
      model.append(std::move(conv));
    }
    const auto prepare = [&](const Tensor& pixels, const Tensor& input) {
      backend.normalize_image({.x = pixels, .y = input});
    };
    const auto network = [&](Context& context, const Var& image) { return std::vector<Var>{model.forward(context, image)}; };
    device.allocator().trim();
    const std::size_t reserved = device.allocator().reserved_bytes();
    const std::int64_t accounted = device.ledger().total().current;
    Most found;
    {
      run::Inference captured(device, model, DType::f32, true, prepare, network),
          eager(device, model, DType::f32, false, prepare, network);
      for (std::int64_t i = first; i <= last; ++i) {
        const Shape shape{1, 512 + 32 * i, 512, 3};
        const std::vector<std::uint8_t> rgb = noise_pixels(Rng(static_cast<std::uint64_t>(i)), shape);
        for (int time = 0; time < 3; ++time) {
          captured.load(shape, rgb);
          captured.run();
          found.recordings = std::max(found.recordings, backend.recordings);
        }
        const std::vector<float> replayed = captured.run().front().value.to_vector();
        if (i % 8 > 1) continue;  // where recordings were dropped, and after that
        eager.load(shape, rgb);
        CHECK((eager.run().front().value.to_vector() == replayed));
      }
      found.replays = captured.replays();
      CHECK(device.ledger().of(Role::workspace, "captured work").current > 0);
    }
    found.bytes = device.ledger().total().peak;
    CHECK(backend.recordings == 0);
    CHECK(device.ledger().total().current == accounted);
    device.allocator().trim();
    CHECK(device.allocator().reserved_bytes() == reserved);
    return found;
  };
  const Most all = most(0, 17), largest = most(10, 17);
  CHECK(all.recordings == 8);
  CHECK(all.replays == 18 * 2 - 2);  // four times each: run, recorded, replayed; twice there was no room at first
  CHECK(largest.replays == 8 * 2);
  CHECK(all.bytes <= largest.bytes);  // what earlier shapes needed is gone
}

TEST_CASE("validation of a detector, captured and replayed, equals an eager one bit for bit") {
  const auto outcome = [](bool capture) {
    Device device(capturing(DType::f32));
    DetectionModel model(device, load_model_spec("yolov5n", 3), 1);
    const auto open = [](yolo::DetectionBatch& batch, std::int64_t, std::int64_t number) -> std::int64_t {
      const Batch made = batch_number(number);
      batch.n = made.n, batch.h = made.h, batch.w = made.w;
      batch.pixels = made.pixels, batch.targets = made.targets;
      batch.paths.assign(static_cast<std::size_t>(made.n), "noise.png");
      batch.infos.assign(static_cast<std::size_t>(made.n),
                         {.height0 = static_cast<int>(made.h), .width0 = static_cast<int>(made.w)});
      return 0;
    };
    yolo::DetectionLoader loader({.batches = 12, .open = open, .item = {}, .close = {}});
    std::vector<float> numbers;
    const auto result =
        yolo::validate(device, model, loader,
                       {.cuda_graph = capture, .loss = yolo::LossSettings{}, .image_done = [&](const auto& image) {
                          for (const Detection& d : image.native)
                            for (const float value : {d.x1, d.y1, d.x2, d.y2, d.confidence, static_cast<float>(d.label)})
                              numbers.push_back(value);
                        }});
    for (const double loss : result.losses) numbers.push_back(static_cast<float>(loss));
    if (const auto* backend = dynamic_cast<RecordingBackend*>(&device.backend())) {
      CHECK(backend->captures == (capture ? 2 : 0));  // the usual batch, and the smaller one; the wide one comes once
      CHECK(backend->replays == (capture ? 9 : 0));
    }
    return numbers;
  };
  const std::vector<float> eager = outcome(false);
  CHECK((outcome(true) == eager));
  CHECK(eager.size() > 100);
}

TEST_CASE("training on many shapes: what is never recorded keeps no pixels") {
  Device device(std::make_unique<RecordingBackend>(frost::testing::make_device_backend()));
  DetectionModel model(device, load_model_spec("yolov5n", 3), 1);
  frost::freeze(model, model.layers(), {"24"});
  constexpr std::int64_t kShapes = 14;
  const auto open = [](yolo::DetectionBatch& batch, std::int64_t, std::int64_t number) -> std::int64_t {
    batch.n = 1, batch.h = 32, batch.w = 32 * (1 + number / 2);  // each shape twice in a row, as --rect has it
    batch.pixels = noise_pixels(Rng(static_cast<std::uint64_t>(number)), {batch.n, batch.h, batch.w, 3});
    return 0;
  };
  yolo::LabelSet labels;
  labels.images.resize(1);
  yolo::DetectionTask task(device, model, {{}, yolo::load_hyp("scratch-low"), 64},
                           {.train = std::make_unique<yolo::DetectionLoader>(BatchSource<yolo::DetectionBatch>{
                                .batches = 2 * kShapes, .open = open, .item = {}, .close = {}}),
                            .val = {},
                            .train_set = std::make_shared<yolo::DetectionDataset>(std::move(labels), yolo::DatasetOptions{}),
                            .val_set = {}});
  task.begin_epoch(0);
  std::vector<std::int64_t> pinned;
  for (std::int64_t shape = 0; shape < kShapes; ++shape) {
    task.train_batch(), task.train_batch();
    pinned.push_back(device.ledger().of(Role::input).current);
  }
  const std::int64_t targets = 64 * 6 * 4, columns = 32 * 32 * 3;  // bytes of a loss' targets, and of 32 columns of pixels
  CHECK(pinned[7] - pinned[6] == 8 * columns + targets);
  CHECK(pinned[13] - pinned[7] == 6 * targets);
}

TEST_CASE("a replay needs the memory of its captured graph, and the accounts say so until it is forgotten") {
  Device device(std::make_unique<RecordingBackend>(frost::testing::make_device_backend()));
  CapturedStep work(device, nullptr, true);
  const Tensor x = Tensor::zeros(device, {1, 1024, 1024, 1}), y = Tensor::zeros(device, x.shape());
  const std::int64_t each = x.elements() * 4;
  const auto pass = [&] {
    const Tensor between(device, x.shape());
    device.backend().copy({.x = x, .y = between});
    device.backend().copy({.x = between, .y = y});
  };
  work.run({1}, pass), work.run({1}, pass);
  device.ledger().reset_peaks();  // as at the beginning of an epoch
  work.run({1}, pass);
  CHECK(work.replays() == 1);
  CHECK(device.ledger().total().peak >= 3 * each);
  CHECK(device.ledger().of(Role::workspace, "captured work").current >= each);
  work.forget();
  CHECK(device.ledger().total().current == 2 * each);
  device.allocator().trim();
  CHECK(device.allocator().reserved_bytes() == static_cast<std::size_t>(2 * each));
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

TEST_CASE("a device that breaks or runs out of memory around a capture: one Error, and no end of the program") {
  struct Failing final : RecordingBackend {
    bool broken = false, full = false;
    void synchronize() override {
      if (broken) fail("illegal address");
      RecordingBackend::synchronize();
    }
    std::unique_ptr<Captured> end_capture() override {
      auto work = RecordingBackend::end_capture();
      if (full) throw OutOfMemory("no room for a graph", 0);
      return work;
    }
  };
  auto owned = std::make_unique<Failing>();
  Failing& backend = *owned;
  Device device(std::move(owned));
  const Tensor numbers = Tensor::from(device, {1, 1, 1, 4}, {1, 2, 3, 4}, Role::input);
  const auto work = [&] { backend.zero(numbers.data(), 4 * sizeof(float)); };
  const auto said = [&](const std::function<void()>& run) {
    try {
      run();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(said([&] {
          CapturedStep step(device, nullptr, true);
          for (int i = 0; i < 2; ++i) step.run({1}, work);
          CHECK(backend.recordings == 1);
          backend.broken = true;
          backend.synchronize();  // as the next download would; the step dies on the way
        }) == "illegal address");
  CHECK(backend.recordings == 0);
  backend.broken = false, backend.full = true;
  CHECK(said([&] {
          CapturedStep step(device, nullptr, true);
          for (int i = 0; i < 2; ++i) step.run({1}, work);
        }).starts_with("no room for a graph; "));
}

TEST_CASE("a resumed run's loss scale: kept, dropped or begun anew as the type wants it") {
  Device device(make_cpu_backend());
  const auto model = classify::make_classifier(device, "yolov5n-cls", 2, 1);
  ParameterArena arena(device, *model, 0, true);
  Optimizer plain(arena, device, OptimizerKind::sgd, false), scaling(arena, device, OptimizerKind::sgd, true);
  UpdateState saved;
  saved.steps = 7, saved.loss_scale.scale = 256;
  plain.restore(saved);
  CHECK(plain.state().steps == 7);
  CHECK(plain.state().loss_scale.scale == 1);
  scaling.restore(saved);
  CHECK(scaling.state().loss_scale.scale == 256);
  scaling.restore(plain.state());
  CHECK(scaling.state().loss_scale.scale == 65536);
}
