#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "engine/optim/schedule.h"
#include "engine/training/updater.h"
#include "kernels/math/half.h"
#include "models/yolo/step.h"
#include "tests/device.h"
#include "tests/models/model_fixture.h"

// Training steps against YOLOv5's own train.py arithmetic in float64 (golden/README.md D): learning rates, accumulation,
// clipping, momentum, averages, freezing with moving batch-norm statistics.
using namespace frost;
using namespace frost::golden;
using frost::golden::File;
using frost::testing::TestDevice;

namespace {

/// In 16 bits the losses and the sizes of gradients and weights have to stay within the type's tolerance; what a few single
/// weights do is rounding there.
void check_recipe(const std::string& recipe, DType type = DType::f32) {
  CAPTURE(recipe);
  CAPTURE(std::string(name_of(type)));
  const bool exact = type == DType::f32;
  const File g = load("train_" + recipe), data = load("train_data"), n = load("model_yolov5n");
  const auto hyp = g.fact_json("hyp");
  const double gain = std::stod(g.fact("gain"));
  TestDevice device(TestDevice::fastest);
  DetectionModel model(device, parse_model_yaml(n.fact("yaml"), "yolov5n", 3));
  fill_model(model);
  std::map<std::string, std::vector<float>> initial;
  for (const auto& [name, tensor] : state_of(model)) initial[name] = tensor.to_f32();

  const int frozen = std::stoi(g.fact("frozen"));
  for (Parameter* p : model.parameters())
    for (int layer = 0; layer < frozen; ++layer)
      if (p->name.find("model." + std::to_string(layer) + ".") == 0) p->trainable = false;

  const std::int64_t batch = std::stoll(g.fact("batch_size")), nbs = std::stoll(g.fact("nbs")),
                     per_epoch = std::stoll(g.fact("batches_per_epoch"));
  const double accumulate = std::max(std::nearbyint(static_cast<double>(nbs) / static_cast<double>(batch)), 1.0);
  const double decay =
      hyp["weight_decay"].get<double>() * static_cast<double>(batch) * accumulate / static_cast<double>(nbs);
  ParameterArena arena(device, model, static_cast<float>(decay), true);
  ModelAverage average(device, model, arena, [](const Buffer& b) { return !b.name.ends_with("anchors"); });
  const OptimizerKind kind = parse_optimizer(g.fact("optimizer"));
  Updater updater(device, arena, average,
                  {.lr0 = hyp["lr0"],
                   .lrf = hyp["lrf"],
                   .momentum = hyp["momentum"],
                   .warmup_momentum = hyp["warmup_momentum"],
                   .warmup_bias_lr = hyp["warmup_bias_lr"],
                   .warmup_epochs = std::stod(g.fact("warmup")) / static_cast<double>(per_epoch),
                   .warm_momentum = parse_optimizer(g.fact("optimizer")) == OptimizerKind::sgd,
                   .cosine = false,
                   .epochs = std::stoll(g.fact("epochs")),
                   .batches_per_epoch = per_epoch,
                   .batch_size = batch,
                   .nominal_batch = nbs,
                   .minimum_warmup = 0},
                  kind, 10.0, type == DType::f16);
  if (type ==
      DType::f16) {  // the scale that f16 training begins with would cost the first steps until it has found its size
    UpdateState state = updater.optimizer().state();
    state.loss_scale.scale = 128;
    updater.restore(0, -1, state);
  }
  if (g.fact("half_init") == "true")
    model.visit({.parameter =
                     [](Parameter& p) {
                       auto v = p.value.to_vector();
                       for (float& x : v) x = math::to_float(math::from_float<math::f16>(x));
                       p.value.assign(v);
                       p.touch();
                     },
                 .buffer =
                     [](Buffer& b) {
                       auto v = b.value.to_vector();
                       for (float& x : v) x = math::to_float(math::from_float<math::f16>(x));
                       b.value.assign(v);
                       b.touch();
                     },
                 .counter = {}});

  yolo::LossSettings settings{.gains = {.box = static_cast<float>(hyp["box"].get<double>()),
                                        .obj = static_cast<float>(hyp["obj"].get<double>()),
                                        .cls = static_cast<float>(hyp["cls"].get<double>())}};
  if (hyp["box"].get<double>() < 0.06 && gain != 1.0) {
    settings.gains.box *= static_cast<float>(gain);
    settings.gains.obj *= static_cast<float>(gain);
    settings.gains.cls *= static_cast<float>(gain);
  }
  const std::vector<float> lrs = g.at("batch.lr").f32(), momenta = g.at("batch.momentum").f32(),
                           losses = g.at("batch.loss").f32(), items = g.at("batch.items_box_obj_cls").f32(),
                           norms = g.at("batch.grad_norm_before_clip").f32();
  const auto accumulates = g.at("batch.accumulate").values<std::int32_t>();
  const auto stepped = g.at("batch.stepped").values<std::uint8_t>();
  const auto names = g.fact_json("state_names").get<std::vector<std::string>>();
  const auto torch = g.fact_json("torch_float32_error_relative_to_movement");

  int steps = 0;
  for (std::size_t ni = 0; ni < losses.size(); ++ni) {
    INFO("batch ", ni);
    const auto epoch = static_cast<std::int64_t>(ni) / per_epoch, i = static_cast<std::int64_t>(ni) % per_epoch;
    if (i == 0) updater.begin_epoch();
    const Schedule::Step now = updater.begin_batch(epoch, i);
    for (std::size_t k = 0; k < 3; ++k) CHECK(now.lr[k] == doctest::Approx(lrs[ni * 3 + k]).epsilon(1e-5));
    CHECK(now.momentum == doctest::Approx(momenta[ni]).epsilon(1e-6));
    CHECK(now.accumulate == accumulates[ni]);
    const frost::Tensor image = as_type(fill_image(device, "input." + std::to_string(i), {2, 3, 96, 128}), type);
    const std::vector<float> targets = data.at("batch" + std::to_string(i) + ".targets").f32();
    yolo::LossState loss(device, settings, static_cast<std::int64_t>(targets.size() / 6));
    if (type == DType::f16) loss.grad_scale = updater.optimizer().loss_scale();
    loss.set_targets(targets, 2, 3);
    yolo::train_step({.device = device, .frozen_bn = FrozenBn::batch, .compute = type}, model, image, loss);
    const DetectLossResult result = loss.result();
    // Loss 1e-4: after some steps float32 weights differ by rounding; Adam amplifies tiny gradients (see the README), 1e-2.
    const double f32_tolerance = kind == OptimizerKind::sgd ? (steps < 2 ? 2e-5 : 3e-4) : 1e-2,
                 loss_tolerance = exact ? f32_tolerance : std::max(f32_tolerance, tolerance(type));
    CHECK(result.loss == doctest::Approx(losses[ni]).epsilon(loss_tolerance));
    for (std::size_t k = 0; k < 3; ++k)
      CHECK(result.items[k] == doctest::Approx(items[ni * 3 + k]).epsilon(loss_tolerance * 3));
    const bool due = updater.end_batch();
    CHECK(due == (stepped[ni] != 0));
    if (!due) continue;
    // In 16 bits the gradients' norm wanders by more than losses and weights do (up to 0.1 was seen in bf16): batch norms
    // over few pixels amplify rounding on the way back.
    const double norm_tolerance = !exact                       ? 5 * tolerance(type)
                                  : kind == OptimizerKind::sgd ? (steps == 0 ? 1e-4 : 2e-3)
                                                               : (steps < 3 ? 5e-2 : 0.15);
    CHECK(updater.optimizer().state().norm == doctest::Approx(norms[ni]).epsilon(norm_tolerance));
    ++steps;
    const std::string mark = "step" + std::to_string(steps);
    if (!g.has(mark + ".model.l2")) continue;
    for (const std::string which : {"model", "ema"}) {
      const StateDict state = which == "model" ? state_of(model) : average.state();
      const std::vector<float> expected = g.at(mark + "." + which + ".l2").f32(),
                               moved = g.at(mark + "." + which + ".delta_l2").f32(),
                               first8 = g.at(mark + "." + which + ".first8").f32();
      double off_parameters = 0, all_parameters = 0, off_bn = 0, all_bn = 0;
      for (std::size_t t = 0; t < names.size(); ++t) {
        INFO(mark, " ", which, " ", names[t]);
        const std::vector<float> values = state.at(names[t]).to_f32(), &start = initial.at(names[t]);
        double delta = 0;
        for (std::size_t k = 0; k < values.size(); ++k) delta += std::pow(static_cast<double>(values[k]) - start[k], 2);
        delta = std::sqrt(delta);
        if (!exact) {
          CHECK(l2(values) == doctest::Approx(expected[t]).epsilon(tolerance(type)));
          continue;
        }
        // Adam turns tiny gradients into full steps (0.1 for biases here), so float32 runs drift apart: PyTorch's own by 4 %
        // of the whole movement at step 6 (fact torch_float32_error_relative_to_movement), single small tensors by more.
        CHECK(l2(values) == doctest::Approx(expected[t])
                                .epsilon(kind == OptimizerKind::sgd ? 1e-4
                                         : steps < 6                ? 1e-2
                                                                    : 0.1));
        const bool bn = names[t].find("running_") != std::string::npos;
        (bn ? off_bn : off_parameters) += std::pow(delta - moved[t], 2);
        (bn ? all_bn : all_parameters) += std::pow(static_cast<double>(moved[t]), 2);
        const std::vector<float> mine = first(values, 8);
        for (std::size_t k = 0; k < 8; ++k) {
          const double difference = std::abs(static_cast<double>(mine[k]) - first8[t * 8 + k]);
          // within a small share of how far this tensor has moved, or of float32's own resolution of the value
          const double limit =
              (kind == OptimizerKind::sgd ? 0.05 : 0.5) * moved[t] + 2e-6 * std::max(1.0f, std::abs(first8[t * 8 + k]));
          CHECK(difference < limit);
        }
      }
      // A movement's length against the reference's, all tensors together. PyTorch's float32 run states its own distance.
      const double allowed_parameters = std::max(1e-3, 10 * torch[mark + "." + which]["parameters"].get<double>());
      const double allowed_bn = std::max(1e-3, 10 * torch[mark + "." + which]["bn"].get<double>());
      if (all_parameters > 0) CHECK(std::sqrt(off_parameters / all_parameters) < allowed_parameters);
      if (all_bn > 0) CHECK(std::sqrt(off_bn / all_bn) < allowed_bn);
    }
  }
  CHECK(steps >= 6);
  for (Parameter* p : model.parameters()) {
    if (p->trainable || g.fact("half_init") == "true") continue;
    INFO(p->name);
    CHECK_FALSE(p->grad);                                                      // frozen: no gradient buffer,
    CHECK(to_host(p->value, p->torch_shape).to_f32() == initial.at(p->name));  // and not one bit moved
  }
}
}  // namespace

TEST_CASE("training steps equal YOLOv5's") {
  if (!have("golden")) return;
  for (const char* recipe : {"sgd", "sgd_fast", "sgd_clip", "sgd_half_init", "freeze10", "freeze10_fast", "freeze24",
                             "freeze24_fast", "adam", "adam_fast", "adamw", "adamw_fast"})
    check_recipe(recipe);
}

TEST_CASE("training steps in 16 bits stay near YOLOv5's in 64, where the device is not the CPU") {
  if (!have("golden")) return;
  TestDevice device;
  for (const DType type : half_types(device))
    for (const char* recipe : {"sgd", "sgd_fast", "freeze10", "freeze24_fast"}) SUBCASE(in_type(type, recipe).c_str()) {
        check_recipe(recipe, type);
      }
}

TEST_CASE("schedules equal YOLOv5's tables") {
  if (!have("golden")) return;
  const File g = load("train_lr_tables");
  const auto hyp = g.fact_json("hyp");
  for (const bool cosine : {false, true}) {
    const std::string name = cosine ? "cosine" : "linear";
    const std::int64_t per_epoch = std::stoll(g.fact("batches_per_epoch")), epochs = std::stoll(g.fact("epochs"));
    Schedule schedule({.lr0 = hyp["lr0"],
                       .lrf = hyp["lrf"],
                       .momentum = hyp["momentum"],
                       .warmup_momentum = hyp["warmup_momentum"],
                       .warmup_bias_lr = hyp["warmup_bias_lr"],
                       .warmup_epochs = hyp["warmup_epochs"],
                       .cosine = cosine,
                       .epochs = epochs,
                       .batches_per_epoch = per_epoch,
                       .batch_size = std::stoll(g.fact("batch_size")),
                       .nominal_batch = std::stoll(g.fact("nbs"))});
    CHECK(schedule.warmup_batches() == std::stoll(g.fact("warmup_iterations")));
    const std::vector<float> lr = g.at(name + ".lr").f32(), momentum = g.at(name + ".momentum").f32(),
                             factor = g.at(name + ".epoch_factor").f32();
    const auto accumulate = g.at(name + ".accumulate").values<std::int32_t>();
    const auto stepped = g.at(name + ".stepped").values<std::uint8_t>();
    std::int64_t last = -1;
    for (std::int64_t ni = 0; ni < epochs * per_epoch; ++ni) {
      const auto k = static_cast<std::size_t>(ni);
      const Schedule::Step step = schedule.at(ni / per_epoch, ni % per_epoch);
      for (std::size_t j = 0; j < 3; ++j) CHECK(step.lr[j] == doctest::Approx(lr[k * 3 + j]).epsilon(1e-6));
      CHECK(step.momentum == doctest::Approx(momentum[k]).epsilon(1e-6));
      CHECK(step.accumulate == accumulate[k]);
      const bool now = ni - last >= step.accumulate;
      CHECK(now == (stepped[k] != 0));
      if (now) last = ni;
    }
    for (std::int64_t e = 0; e < epochs; ++e)
      CHECK(schedule.factor(static_cast<double>(e)) == doctest::Approx(factor[static_cast<std::size_t>(e)]).epsilon(1e-6));
  }
}
