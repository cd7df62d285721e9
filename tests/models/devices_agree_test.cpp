#include <doctest/doctest.h>

#include <cmath>

#include "engine/training/updater.h"
#include "models/yolo/shapes_dataset.h"
#include "models/yolo/training/step.h"
#include "tests/device.h"
#include "tests/kernels/emulated_backend.h"

// The same 20 training steps on the CPU and on another device: FROST_TEST_DEVICE, or CUDA's kernels emulated on the host
// where that is the CPU itself. Small pictures, no augmentation; SGD with momentum, decay, average and clipping, as
// yolo-train.
using namespace frost;

namespace {

constexpr int kSteps = 20;
constexpr double kRate = 1e-3;
constexpr std::int64_t kBatch = 4, kSide = 64;

struct Run {
  std::vector<DetectLossResult> losses;
  std::vector<float> start, end;  // all parameters and running statistics, one after the other
};

std::vector<float> values_of(Module& model) {
  std::vector<float> all;
  const auto add = [&](const Tensor& tensor) {
    const std::vector<float> values = tensor.to_vector();
    all.insert(all.end(), values.begin(), values.end());
  };
  model.visit({.parameter = [&](Parameter& p) { add(p.value); }, .buffer = [&](Buffer& b) { add(b.value); }, .counter = {}});
  return all;
}

/// `moved`: the weights that training starts from are changed by this share, up or down or not, as `draw` says.
Run train(Device& device, DType type, float moved = 0, std::uint64_t draw = 0) {
  DetectionModel model(device, load_model_spec("yolov5n", 4), 1);
  Rng rng(5 + draw);
  if (moved > 0)
    for (Parameter* p : model.parameters()) {
      std::vector<float> values = p->value.to_vector();
      for (float& v : values) v *= 1 + moved * static_cast<float>(rng.below(3) - 1);
      p->value.assign(values);
      p->touch();
    }
  ParameterArena arena(device, model, 5e-4f, true);
  ModelEma ema(device, model, arena, [](const Buffer& b) { return b.name.find("running_") != std::string::npos; });
  ScheduleConfig schedule;
  schedule.epochs = 10, schedule.batches_per_epoch = 2, schedule.batch_size = schedule.nominal_batch = kBatch;
  schedule.lr0 = kRate, schedule.warmup_epochs = schedule.minimum_warmup = 0;
  Updater updater(device, arena, ema, schedule, OptimizerKind::sgd, 10, type == DType::f16, true);
  if (type == DType::f16) {  // so that no step is lost while the scale finds its size
    UpdateState state = updater.optimizer().state();
    state.loss_scale.scale = 128;
    updater.restore(0, -1, state);
  }
  CapturedStep work(device, &model, true);
  yolo::LossState loss(device, {}, 64);
  if (type == DType::f16) loss.grad_scale = updater.optimizer().loss_scale();
  const Tensor pixels(device, {kBatch, kSide, kSide, 3}, DType::u8, Role::input);
  Run run;
  run.start = values_of(model);
  for (int i = 0; i < kSteps; ++i) {
    std::vector<std::uint8_t> rgb;
    std::vector<float> targets;
    for (std::int64_t k = 0; k < kBatch; ++k) {
      const ShapesSample sample =
          draw_shapes({.imgsz = kSide}, ShapesSplit::train, static_cast<std::uint64_t>(i % 2 * kBatch + k));
      rgb.insert(rgb.end(), sample.image.pixels.begin(), sample.image.pixels.end());
      for (const ShapeLabel& l : sample.labels)
        for (const double v : {static_cast<double>(k), static_cast<double>(l.cls), l.x, l.y, l.w, l.h})
          targets.push_back(static_cast<float>(v));
    }
    if (i % 2 == 0) updater.begin_epoch();
    updater.begin_batch(i / 2, i % 2);
    device.backend().upload(pixels.data(), rgb.data(), rgb.size());
    loss.set_targets(targets, kBatch, 4);
    work.run({1}, [&] {
      yolo::train_step({.device = device, .compute = type}, model, yolo::normalised(device, pixels, type), loss);
    });
    updater.end_batch();
    run.losses.push_back(loss.result());
  }
  run.end = values_of(model);
  CHECK(updater.optimizer().state().skipped == 0);
  return run;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(sum);
}

/// How far two runs are apart: the losses' largest relative difference up to each step, and the distance of where they end,
/// as a share of the way that training went. A device that trains nothing is as far off as one that trains elsewhere.
struct Apart {
  std::vector<double> losses;
  double parameters;
  Apart(const Run& run, const Run& reference)
      : parameters(distance(run.end, reference.end) / distance(reference.end, reference.start)) {
    double most = 0;
    for (std::size_t i = 0; i < kSteps; ++i) {
      const double off = std::abs(static_cast<double>(run.losses[i].loss) / reference.losses[i].loss - 1);
      if (!(off <= most) && !std::isnan(most)) most = off;  // a NaN stays
      losses.push_back(most);
    }
  }
  void widen(const Apart& other) {
    for (std::size_t i = 0; i < losses.size(); ++i) losses[i] = std::max(losses[i], other.losses[i]);
    parameters = std::max(parameters, other.parameters);
  }
};

std::unique_ptr<Backend> other_device() {
  return testing::on_cpu() ? testing::make_emulated_backend(false, testing::HostAccess::open)
                           : testing::make_device_backend();
}

}  // namespace

// Training amplifies rounding, layer by layer and step by step. How much is measured, not guessed: the CPU trains three
// times more, from weights that differ by the type's rounding. The other device may be a few times as far off as the
// furthest of them, a step earlier (differences grow by a few times in a step), or as the type's tolerance.
TEST_CASE("20 training steps on two devices: losses step by step, and where the parameters end") {
  Device cpu(make_cpu_backend());
  const Run reference = train(cpu, DType::f32);
  for (std::size_t batch : {0, 1})  // it is training that is compared
    CHECK(reference.losses[kSteps - 2 + batch].loss < reference.losses[batch].loss);
  struct Limit {
    DType type;
    float rounding;
    double tolerance;
  };
  for (const Limit& limit :
       {Limit{DType::f32, 0x1p-23f, 1e-4}, {DType::f16, 0x1p-11f, 2e-2}, {DType::bf16, 0x1p-8f, 5e-2}}) {
    Device device(other_device());
    if (!device.backend().supports(limit.type)) continue;
    Apart rounding(train(cpu, DType::f32, limit.rounding), reference);
    for (const std::uint64_t draw : {1, 2}) rounding.widen(Apart(train(cpu, DType::f32, limit.rounding, draw), reference));
    const Run run = train(device, limit.type);
    CHECK((run.start == reference.start));
    const Apart apart(run, reference);
    const std::string who = std::string(name_of(limit.type)) + " on " + device.backend().description();
    for (std::size_t i = 0; i < kSteps; ++i) {
      const double moved = rounding.losses[std::min<std::size_t>(i + 1, kSteps - 1)];
      INFO(who, ", step ", i, ", rounding moves the loss by ", moved);
      CHECK(apart.losses[i] < std::max(limit.tolerance, 4 * moved));
    }
    INFO(who);
    CHECK(rounding.losses.back() < 0.1);  // else nothing is compared
    CHECK(apart.parameters < std::max(limit.tolerance, 4 * rounding.parameters));
    CHECK(apart.parameters < 0.2);
    MESSAGE(who, ": losses differ by at most ", apart.losses.back(), " (rounding alone: ", rounding.losses.back(),
            "), parameters by ", apart.parameters, " of their way (", rounding.parameters, ")");
  }
}
