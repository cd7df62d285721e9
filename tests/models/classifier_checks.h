#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/optim/optimizer.h"
#include "models/slim/prune.h"
#include "tests/models/golden_classifier.h"

/// What every family has to do at once. Explaining and removing filters: explain_test.cpp and filters_test.cpp ask all.
namespace frost::testing {

struct SmallClassifier {
  TestDevice device;
  std::unique_ptr<classify::Classifier> model;
  frost::Tensor images;
  std::vector<std::int64_t> labels{0, 1, 2, 0};
  explicit SmallClassifier(const std::string& name) : model(classify::make_classifier(device, name, 3, 1)) {
    const std::int64_t side = std::max(64, model->smallest_imgsz());
    images = golden::fill_image(device, "images", {4, 3, side, side});
    model->set_dropout(0);
  }
  /// Losses of some steps on the same images.
  std::vector<float> train(int steps) {
    ParameterArena arena(device, *model, 0, false);
    Optimizer optimizer(arena, device, OptimizerKind::adam);
    for (ParameterGroup& group : arena.groups()) group.lr = 0.001f;
    std::vector<float> losses;
    for (int step = 0; step < steps; ++step) {
      losses.push_back(classify::train_step({.device = device}, *model, images, labels, 0));
      optimizer.step(0.9f);
    }
    return losses;
  }
};

/// Names, logits, and a step's loss, gradients and statistics against float64, activations kept and made again.
inline void check_golden(const std::string& name) {
  golden::GoldenClassifier c(name);
  c.measure_movement();
  const auto movement = c.moved;
  golden::GoldenClassifier once(name);
  once.moved = movement;
  once.check_logits();
  for (const bool recompute : {true, false}) {
    golden::GoldenClassifier fresh(name);
    fresh.moved = movement;
    fresh.check_step("all", recompute);
  }
}

/// Four images are learnt by heart.
inline void check_training(const std::string& name) {
  SmallClassifier c(name);
  const std::vector<float> losses = c.train(6);
  CAPTURE(losses);
  CHECK(std::abs(losses.front() - std::log(3.0)) < 3);  // fresh weights know nothing
  CHECK(losses.back() < 0.6 * losses.front());
}

/// --freeze backbone: `head` alone trains, everything else keeps its bits. `layers`: what --freeze counts.
inline void check_freezing(const std::string& name, int layers, const std::vector<std::string>& head) {
  SmallClassifier c(name);
  CHECK(c.model->layers().count() == layers);
  c.model->freeze({"backbone"});
  std::vector<std::string> trained;
  for (const Parameter* p : c.model->parameters())
    if (p->trainable) trained.push_back(p->name);
  CHECK(trained == head);
  const StateDict before = state_of(*c.model);
  const std::vector<float> losses = c.train(3);
  CHECK(losses.back() < losses.front());
  for (const auto& [tensor, values] : state_of(*c.model)) {
    CAPTURE(tensor);
    CHECK((values == before.at(tensor)) == (std::find(head.begin(), head.end(), tensor) == head.end()));
  }
}

/// Masks of all kinds; zeros stay zero in training.
inline void check_pruning(const std::string& name) {
  for (const std::string method : {"l1", "global", "nm"}) {
    CAPTURE(method);
    SmallClassifier c(name);
    if (method == "l1") slim::prune_l1(*c.model, 0.3);
    if (method == "global") slim::prune_global(*c.model, 0.3);
    if (method == "nm") {
      const std::vector<std::string> dense = slim::prune_n_of_m(*c.model, 2, 4);
      for (const Conv2d* conv : slim::prunable(*c.model))  // a depthwise filter has one input channel, the stem three
        CHECK((std::find(dense.begin(), dense.end(), conv->weight.name) != dense.end()) ==
              (conv->weight.value.shape().c % 4 != 0));
    }
    const slim::Sparsity sparsity = slim::sparsity(*c.model);
    const double share = static_cast<double>(sparsity.weight_zeros) / static_cast<double>(sparsity.weights);
    CHECK(share > (method == "nm" ? 0.4 : 0.299));
    CHECK(share < (method == "nm" ? 0.5001 : 0.301));
    for (const float loss : c.train(2)) CHECK(std::isfinite(loss));
    CHECK(slim::sparsity(*c.model).weight_zeros >= sparsity.weight_zeros);
  }
}

}  // namespace frost::testing
