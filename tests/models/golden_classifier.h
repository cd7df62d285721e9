#pragma once
#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/classify/step.h"
#include "tests/models/model_fixture.h"

namespace frost::golden {

/// One architecture with the golden weights, and its image: what a float64 run says of it.
/// 1e-4 of each tensor's scale: some twenty to a hundred convolutions in float32.
struct GoldenClassifier {
  File g;
  testing::TestDevice device{testing::TestDevice::fastest};
  std::unique_ptr<classify::Classifier> model;
  frost::Tensor image;
  explicit GoldenClassifier(const std::string& name)
      : g(load("model_" + name)), model(classify::make_classifier(device, name, std::stoi(g.fact("classes")), {})) {
    fill_model(*model);
    image = fill_image(device, "input", g.fact_json("input_shape").get<std::vector<std::int64_t>>());
  }
  std::vector<float> logits(bool training, DType type = DType::f32) {
    Context context{.device = device, .training = training, .compute = type};
    return model->forward(context, {as_type(image, type), -1, nullptr}).value.to_vector();
  }

  /// Names in the state dict's order, parameters, logits in evaluation and (where the file has them) in training.
  void check_logits() {
    std::vector<std::string> names;
    std::int64_t parameters = 0;
    model->visit({.parameter =
                      [&](Parameter& p) {
                        names.push_back(p.name);
                        parameters += p.value.elements();
                      },
                  .buffer = [&](Buffer& b) { names.push_back(b.name); },
                  .counter = [&](Counter& n) { names.push_back(n.name); }});
    CHECK(names == g.fact_json("state_dict_names").get<std::vector<std::string>>());
    CHECK(parameters == std::stoll(g.fact("parameters")));
    CHECK(relative_error(logits(false), g.at("eval_logits").f32()) < 1e-4);
    if (g.has("train_logits")) CHECK(relative_error(logits(true), g.at("train_logits").f32()) < 1e-4);
  }

  /// Loss, gradients and running statistics of one step. `variant`: what trains, "all" or "fc_only".
  void check_step(const std::string& variant, bool recompute) {
    for (Parameter* p : model->parameters()) p->trainable = variant == "all" || p->name.starts_with("fc.");
    const auto labels = g.fact_json("labels").get<std::vector<std::int64_t>>();
    // Freezing parameters does not freeze batch norm in PyTorch: batch statistics.
    const float loss =
        classify::train_step({.device = device, .frozen_bn = FrozenBn::batch}, *model, image, labels, 0, recompute);
    CHECK(loss == doctest::Approx(std::stod(g.fact(variant + ".loss"))).epsilon(1e-4));

    std::map<std::string, Parameter*> parameters;
    for (Parameter* p : model->parameters()) {
      parameters[p->name] = p;
      CHECK(static_cast<bool>(p->grad) == p->trainable);
    }
    const auto names = g.fact_json(variant + ".grad_names").get<std::vector<std::string>>();
    const std::vector<float> norms = g.at(variant + ".grad.l2").f32(), first8 = g.at(variant + ".grad.first8").f32();
    for (std::size_t i = 0; i < names.size(); ++i) {
      INFO(names[i]);
      const Parameter& p = *parameters.at(names[i]);
      const std::vector<float> values = to_host(p.grad, p.torch_shape).to_f32();
      CHECK(l2(values) == doctest::Approx(norms[i]).epsilon(1e-4));
      const std::vector<float> mine = first(values, 8);
      const double scale = norms[i] / std::sqrt(static_cast<double>(values.size()));  // a typical value
      for (std::size_t k = 0; k < 8; ++k) {
        const double expected = first8[i * 8 + k];
        CHECK(std::abs(mine[k] - expected) < 1e-4 * std::max(4 * scale, std::abs(expected)));
      }
    }
    const auto buffers = g.fact_json("bn_names").get<std::vector<std::string>>();
    const std::vector<float> after = g.at(variant + ".bn_after.l2").f32();
    std::map<std::string, Buffer*> by_name;
    for (Buffer* b : model->buffers()) by_name[b->name] = b;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      INFO(buffers[i]);
      CHECK(l2(by_name.at(buffers[i])->value.to_vector()) == doctest::Approx(after[i]).epsilon(1e-5));
    }
  }
};

}  // namespace frost::golden
