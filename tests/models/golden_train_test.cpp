#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/optim/schedule.h"
#include "engine/training/updater.h"
#include "kernels/math/half.h"
#include "models/yolo/training/step.h"
#include "tests/device.h"
#include "tests/models/model_fixture.h"

// Training steps against YOLOv5's own train.py arithmetic in float64 (golden/README.md D): learning rates, accumulation,
// clipping, momentum, averages, freezing with moving batch-norm statistics.
using namespace frost;
using namespace frost::golden;
using frost::golden::File;
using frost::testing::TestDevice;

namespace {

/// One of the reference's short trainings (golden/README.md D), batch by batch.
class RecipeRun {
 public:
  /// `moved`: the weights that training starts from are changed by this share, up or down or not, as `draw` says.
  RecipeRun(const File& golden, DType type, float moved = 0, std::uint64_t draw = 0)
      : golden_(golden),
        data_(load("train_data")),
        type_(type),
        hyp_(golden.fact_json("hyp")),
        model_(device_, parse_model_yaml(load("model_yolov5n").fact("yaml"), "yolov5n", 3)) {
    fill_model(model_);
    for (const auto& [name, tensor] : state_of(model_)) initial_[name] = tensor.to_f32();
    if (golden.fact("half_init") == "true")
      change_state([](float v) { return math::to_float(math::from_float<math::f16>(v)); });
    Rng rng(5 + draw);
    if (moved > 0) change_state([&](float v) { return v * (1 + moved * static_cast<float>(rng.below(3) - 1)); });
    for (Parameter* p : model_.parameters())
      for (int layer = 0; layer < std::stoi(golden.fact("frozen")); ++layer)
        if (p->name.starts_with("model." + std::to_string(layer) + ".")) p->trainable = false;

    const std::int64_t batch = std::stoll(golden.fact("batch_size")), nbs = std::stoll(golden.fact("nbs"));
    const double accumulate = std::max(std::nearbyint(static_cast<double>(nbs) / static_cast<double>(batch)), 1.0);
    const double decay =
        hyp_["weight_decay"].get<double>() * static_cast<double>(batch) * accumulate / static_cast<double>(nbs);
    arena_.emplace(device_, model_, static_cast<float>(decay), true);
    ema_.emplace(device_, model_, *arena_, [](const Buffer& b) { return !b.name.ends_with("anchors"); });
    const OptimizerKind kind = parse_optimizer(golden.fact("optimizer"));
    updater_.emplace(device_, *arena_, *ema_,
                     ScheduleConfig{.lr0 = hyp_["lr0"],
                                    .lrf = hyp_["lrf"],
                                    .momentum = hyp_["momentum"],
                                    .warmup_momentum = hyp_["warmup_momentum"],
                                    .warmup_bias_lr = hyp_["warmup_bias_lr"],
                                    .warmup_epochs = std::stod(golden.fact("warmup")) / static_cast<double>(per_epoch()),
                                    .warm_momentum = kind == OptimizerKind::sgd,
                                    .cosine = false,
                                    .epochs = std::stoll(golden.fact("epochs")),
                                    .batches_per_epoch = per_epoch(),
                                    .batch_size = batch,
                                    .nominal_batch = nbs,
                                    .minimum_warmup = 0},
                     kind, 10.0, type == DType::f16);
    if (type == DType::f16) {  // the scale that training begins with would cost the first steps until it has found its size
      UpdateState state = updater_->optimizer().state();
      state.loss_scale.scale = 128;
      updater_->restore(0, -1, state);
    }
    gains_ = {.box = hyp_["box"], .obj = hyp_["obj"], .cls = hyp_["cls"]};
    const double gain = std::stod(golden.fact("gain"));
    if (hyp_["box"].get<double>() < 0.06 && gain != 1.0)
      for (float* g : {&gains_.box, &gains_.obj, &gains_.cls}) *g *= static_cast<float>(gain);
  }

  struct Batch {
    Schedule::Step rates;
    DetectLossResult loss;
    bool stepped;  // the optimizer has run
  };
  Batch next() {
    const std::int64_t epoch = done_ / per_epoch(), i = done_ % per_epoch();
    ++done_;
    if (i == 0) updater_->begin_epoch();
    Batch batch{.rates = updater_->begin_batch(epoch, i), .loss = {}, .stepped = false};
    const std::string mine = std::to_string(i);
    const frost::Tensor image = as_type(fill_image(device_, "input." + mine, {2, 3, 96, 128}), type_);
    const std::vector<float> targets = data_.at("batch" + mine + ".targets").f32();
    yolo::LossState loss(device_, {.gains = gains_}, static_cast<std::int64_t>(targets.size() / 6));
    if (type_ == DType::f16) loss.grad_scale = updater_->optimizer().loss_scale();
    loss.set_targets(targets, 2, 3);
    yolo::train_step({.device = device_, .frozen_bn = FrozenBn::batch, .compute = type_}, model_, image, loss);
    batch.loss = loss.result();
    batch.stepped = updater_->end_batch();
    return batch;
  }
  /// Before clipping, of the last step.
  double gradient_norm() { return updater_->optimizer().state().norm; }

  DetectionModel& model() { return model_; }
  StateDict state(const std::string& which) { return which == "model" ? state_of(model_) : ema_->state(); }
  const std::vector<float>& initial(const std::string& name) const { return initial_.at(name); }

 private:
  std::int64_t per_epoch() const { return std::stoll(golden_.fact("batches_per_epoch")); }
  template <class Change>
  void change_state(Change change) {
    const auto each = [&](auto& tensor) {
      std::vector<float> values = tensor.value.to_vector();
      for (float& v : values) v = change(v);
      tensor.value.assign(values);
      tensor.touch();
    };
    model_.visit({.parameter = [&](Parameter& p) { each(p); }, .buffer = [&](Buffer& b) { each(b); }, .counter = {}});
  }

  const File& golden_;
  File data_;
  DType type_;
  nlohmann::json hyp_;
  TestDevice device_{TestDevice::fastest};
  DetectionModel model_;
  std::map<std::string, std::vector<float>> initial_;
  std::optional<ParameterArena> arena_;
  std::optional<ModelEma> ema_;
  std::optional<Updater> updater_;
  DetectLossGains gains_;
  std::int64_t done_ = 0;
};

/// How far two sizes are from each other, as a share where they are near; a lost gradient is infinitely far.
double apart(double a, double b) { return std::abs(std::log(a / b)); }

/// Gradients pass batch norms over a few pixels on their way back, which amplify rounding: by how much, step by step, is
/// measured, not guessed. Three runs in f32 start from weights that differ by the type's rounding; the furthest from the
/// reference's norm of all gradients, as apart() says.
std::vector<double> effect_of_rounding(const File& golden, DType type) {
  const std::vector<float> norms = golden.at("batch.grad_norm_before_clip").f32();
  std::vector<double> furthest(norms.size(), 0);
  for (const std::uint64_t draw : {0, 1, 2}) {
    RecipeRun run(golden, DType::f32, type == DType::f16 ? 0x1p-11f : 0x1p-8f, draw);
    for (std::size_t i = 0; i < norms.size(); ++i)
      if (run.next().stepped) furthest[i] = std::max(furthest[i], apart(run.gradient_norm(), norms[i]));
  }
  return furthest;
}

/// Weights and averages after a step against the reference's. In 16 bits their sizes have to stay within the type's
/// tolerance; what a few single weights do is rounding there.
void check_state(RecipeRun& run, const File& g, int steps, DType type) {
  const auto names = g.fact_json("state_names").get<std::vector<std::string>>();
  const auto torch = g.fact_json("torch_float32_error_relative_to_movement");
  const bool sgd = parse_optimizer(g.fact("optimizer")) == OptimizerKind::sgd;
  const std::string mark = "step" + std::to_string(steps);
  for (const std::string which : {"model", "ema"}) {
    const StateDict state = run.state(which);
    const std::vector<float> expected = g.at(mark + "." + which + ".l2").f32(),
                             moved = g.at(mark + "." + which + ".delta_l2").f32(),
                             first8 = g.at(mark + "." + which + ".first8").f32();
    double off_parameters = 0, all_parameters = 0, off_bn = 0, all_bn = 0;
    for (std::size_t t = 0; t < names.size(); ++t) {
      INFO(mark, " ", which, " ", names[t]);
      const std::vector<float> values = state.at(names[t]).to_f32(), &start = run.initial(names[t]);
      if (type != DType::f32) {
        CHECK(l2(values) == doctest::Approx(expected[t]).epsilon(tolerance(type)));
        continue;
      }
      double delta = 0;
      for (std::size_t k = 0; k < values.size(); ++k) delta += std::pow(static_cast<double>(values[k]) - start[k], 2);
      delta = std::sqrt(delta);
      // Adam turns tiny gradients into full steps (0.1 for biases here), so float32 runs drift apart: PyTorch's own by 4 %
      // of the whole movement at step 6 (fact torch_float32_error_relative_to_movement), single small tensors by more.
      CHECK(l2(values) == doctest::Approx(expected[t]).epsilon(sgd ? 1e-4 : steps < 6 ? 1e-2 : 0.1));
      const bool bn = names[t].find("running_") != std::string::npos;
      (bn ? off_bn : off_parameters) += std::pow(delta - moved[t], 2);
      (bn ? all_bn : all_parameters) += std::pow(static_cast<double>(moved[t]), 2);
      const std::vector<float> mine = first(values, 8);
      for (std::size_t k = 0; k < 8; ++k) {
        const double difference = std::abs(static_cast<double>(mine[k]) - first8[t * 8 + k]);
        // within a small share of how far this tensor has moved, or of float32's own resolution of the value
        const double limit = (sgd ? 0.05 : 0.5) * moved[t] + 2e-6 * std::max(1.0f, std::abs(first8[t * 8 + k]));
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

void check_recipe(const std::string& recipe, DType type = DType::f32) {
  CAPTURE(recipe);
  CAPTURE(std::string(name_of(type)));
  const bool exact = type == DType::f32;
  const File g = load("train_" + recipe);
  const bool sgd = parse_optimizer(g.fact("optimizer")) == OptimizerKind::sgd;
  const std::vector<float> lrs = g.at("batch.lr").f32(), momenta = g.at("batch.momentum").f32(),
                           losses = g.at("batch.loss").f32(), items = g.at("batch.items_box_obj_cls").f32(),
                           norms = g.at("batch.grad_norm_before_clip").f32();
  const auto accumulates = g.at("batch.accumulate").values<std::int32_t>();
  const auto stepped = g.at("batch.stepped").values<std::uint8_t>();
  const std::vector<double> rounding = exact ? std::vector<double>() : effect_of_rounding(g, type);

  RecipeRun run(g, type);
  int steps = 0, compared = 0;
  for (std::size_t ni = 0; ni < losses.size(); ++ni) {
    INFO("batch ", ni);
    const RecipeRun::Batch batch = run.next();
    for (std::size_t k = 0; k < 3; ++k) CHECK(batch.rates.lr[k] == doctest::Approx(lrs[ni * 3 + k]).epsilon(1e-5));
    CHECK(batch.rates.momentum == doctest::Approx(momenta[ni]).epsilon(1e-6));
    CHECK(batch.rates.accumulate == accumulates[ni]);
    // Loss 1e-4: after some steps float32 weights differ by rounding; Adam amplifies tiny gradients (see the README), 1e-2.
    const double f32_tolerance = sgd ? (steps < 2 ? 2e-5 : 3e-4) : 1e-2,
                 loss_tolerance = exact ? f32_tolerance : std::max(f32_tolerance, tolerance(type));
    CHECK(batch.loss.loss == doctest::Approx(losses[ni]).epsilon(loss_tolerance));
    for (std::size_t k = 0; k < 3; ++k)
      CHECK(batch.loss.items[k] == doctest::Approx(items[ni * 3 + k]).epsilon(loss_tolerance * 3));
    CHECK(batch.stepped == (stepped[ni] != 0));
    if (!batch.stepped) continue;
    if (exact) {
      const double limit = sgd ? (steps == 0 ? 1e-4 : 2e-3) : (steps < 3 ? 5e-2 : 0.15);
      CHECK(run.gradient_norm() == doctest::Approx(norms[ni]).epsilon(limit));
    } else if (rounding[ni] < 0.2) {  // else the norm says nothing
      INFO("rounded weights alone move the norm by ", rounding[ni]);
      // Activations and gradients are rounded too, where effect_of_rounding moves weights alone.
      CHECK(apart(run.gradient_norm(), norms[ni]) < std::max(tolerance(type), 4 * rounding[ni]));
      ++compared;
    }
    ++steps;
    if (g.has("step" + std::to_string(steps) + ".model.l2")) check_state(run, g, steps, type);
  }
  CHECK(steps >= 6);
  if (!exact) CHECK(compared >= 2);
  for (Parameter* p : run.model().parameters()) {
    if (p->trainable || g.fact("half_init") == "true") continue;
    INFO(p->name);
    CHECK_FALSE(p->grad);                                                       // frozen: no gradient buffer,
    CHECK(to_host(p->value, p->torch_shape).to_f32() == run.initial(p->name));  // and not one bit moved
  }
}
}  // namespace

TEST_CASE("training steps equal YOLOv5's") {
  for (const char* recipe : {"sgd", "sgd_fast", "sgd_clip", "sgd_half_init", "freeze10", "freeze10_fast", "freeze24",
                             "freeze24_fast", "adam", "adam_fast", "adamw", "adamw_fast"})
    check_recipe(recipe);
}

TEST_CASE("training steps in 16 bits stay near YOLOv5's in 64, where the device is not the CPU") {
  TestDevice device;
  for (const DType type : half_types(device))
    for (const char* recipe : {"sgd", "sgd_fast", "freeze10", "freeze24_fast"}) SUBCASE(in_type(type, recipe).c_str()) {
        check_recipe(recipe, type);
      }
}

TEST_CASE("schedules equal YOLOv5's tables") {
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
