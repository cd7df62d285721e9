#include <doctest/doctest.h>

#include "engine/optim/optimizer.h"
#include "models/freeze.h"
#include "models/yolo/shapes_dataset.h"
#include "models/yolo/training/step.h"
#include "tests/device.h"

// Does it learn? A few drawn pictures, the same batch again and again: the loss must fall, and freezing must show in the
// accounts.
using namespace frost;

namespace {
struct Lesson {
  frost::testing::TestDevice device;
  DetectionModel model{device, load_model_spec("yolov5n", 4), 1};
  std::vector<float> targets;
  Tensor images{device, {4, 96, 96, 3}, DType::f32, Role::input};
  Lesson() {
    std::vector<float> pixels;
    for (std::uint64_t i = 0; i < 4; ++i) {
      const ShapesSample sample = draw_shapes({.imgsz = 96}, ShapesSplit::train, i);
      for (const std::uint8_t p : sample.image.pixels) pixels.push_back(static_cast<float>(p) / 255);
      for (const ShapeLabel& l : sample.labels)
        for (const double v : {static_cast<double>(i), static_cast<double>(l.cls), l.x, l.y, l.w, l.h})
          targets.push_back(static_cast<float>(v));
    }
    images.assign(pixels);
  }
};
}  // namespace

TEST_CASE("the loss of a batch falls when it is learnt") {
  Lesson lesson;
  yolo::LossSettings settings;
  ParameterArena arena(lesson.device, lesson.model, 5e-4f, false);
  Optimizer optimizer(arena, lesson.device, OptimizerKind::sgd);
  for (ParameterGroup& group : arena.groups()) group.lr = 0.01f;
  float before = 0, after = 0;
  for (int step = 0; step < 40; ++step) {
    after = yolo::train_step({.device = lesson.device}, lesson.model, lesson.images, lesson.targets, settings).loss;
    if (step == 0) before = after;
    optimizer.step(0.9f);
  }
  CHECK(after < 0.75f * before);
}

TEST_CASE("freezing: gradient, optimizer and saved bytes fall, frozen state keeps its bits") {
  std::int64_t gradients = 1 << 30, states = 1 << 30, saved = 1 << 30;
  for (const int freeze : {0, 10, 24}) {
    CAPTURE(freeze);
    Lesson lesson;
    frost::freeze(lesson.model, lesson.model.layers(), {std::to_string(freeze)});
    std::vector<std::pair<std::string, std::vector<float>>> before;
    lesson.model.visit({.parameter =
                            [&](Parameter& p) {
                              if (!p.trainable) before.emplace_back(p.name, p.value.to_vector());
                            },
                        .buffer = {},
                        .counter = {}});
    ParameterArena arena(lesson.device, lesson.model, 5e-4f, true);
    Optimizer optimizer(arena, lesson.device, OptimizerKind::sgd);
    for (ParameterGroup& group : arena.groups()) group.lr = 0.01f;
    yolo::LossSettings settings;
    for (int step = 0; step < 2; ++step) {
      yolo::train_step({.device = lesson.device}, lesson.model, lesson.images, lesson.targets, settings);
      optimizer.step(0.9f);
    }
    const Ledger& ledger = lesson.device.ledger();
    CHECK(ledger.of(Role::gradient).peak < gradients);
    CHECK(ledger.of(Role::optimizer_state).peak < states);
    CHECK(ledger.of(Role::saved_activation).peak < saved);
    gradients = ledger.of(Role::gradient).peak, states = ledger.of(Role::optimizer_state).peak,
    saved = ledger.of(Role::saved_activation).peak;
    std::size_t same = 0;
    lesson.model.visit({.parameter =
                            [&](Parameter& p) {
                              for (const auto& [name, values] : before)
                                if (name == p.name) same += p.value.to_vector() == values && !p.grad;
                            },
                        .buffer = {},
                        .counter = {}});
    CHECK(same == before.size());
    CHECK(before.size() == (freeze == 0 ? 0 : freeze == 10 ? 99 : 171));
  }
}

TEST_CASE("a masked parameter keeps its zeros through momentum, decay and the average") {
  Lesson lesson;
  Parameter& weight = *lesson.model.parameters()[0];
  std::vector<float> mask(static_cast<std::size_t>(weight.value.elements()), 1.0f), value = weight.value.to_vector();
  for (std::size_t i = 0; i < mask.size(); i += 3) mask[i] = value[i] = 0;
  weight.mask = Tensor::from(lesson.device, weight.value.shape(), mask, Role::parameter);
  weight.value.assign(value);
  ParameterArena arena(lesson.device, lesson.model, 5e-4f, true);
  Optimizer optimizer(arena, lesson.device, OptimizerKind::sgd);
  for (ParameterGroup& group : arena.groups()) group.lr = 0.01f;
  yolo::LossSettings settings;
  for (int step = 0; step < 3; ++step) {
    yolo::train_step({.device = lesson.device}, lesson.model, lesson.images, lesson.targets, settings);
    optimizer.step(0.9f);
  }
  const std::vector<float> after = weight.value.to_vector();
  std::size_t kept = 0, moved = 0;
  for (std::size_t i = 0; i < mask.size(); ++i)
    (mask[i] == 0 ? kept : moved) += mask[i] == 0 ? after[i] == 0 : after[i] != value[i];
  CHECK(kept == (mask.size() + 2) / 3);
  CHECK(moved > mask.size() / 2);
}
