#pragma once
#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/classify/step.h"
#include "tests/models/model_fixture.h"

namespace frost::golden {

/// One architecture with the golden weights, and its image: what a float64 run says of it.
/// 1e-4 of each tensor's scale: some twenty to a hundred convolutions in float32.
struct GoldenClassifier {
  std::string name;
  File g;
  testing::TestDevice device{testing::TestDevice::fastest};
  std::unique_ptr<classify::Classifier> model;
  frost::Tensor image;
  explicit GoldenClassifier(const std::string& name)
      : name(name),
        g(load("model_" + name)),
        model(classify::make_classifier(device, name, std::stoi(g.fact("classes")), {})) {
    fill_model(*model);
    model->set_dropout(0);
    image = fill_image(device, "input", g.fact_json("input_shape").get<std::vector<std::int64_t>>());
  }
  std::vector<float> logits(bool training, DType type = DType::f32) {
    Context context{.device = device, .training = training, .compute = type};
    return model->forward(context, {as_type(image, type), -1, nullptr}).value.to_vector();
  }

  /// How far logits and gradients (root mean square of a tensor) move where each value of the image moves by one unit in the
  /// last place, the larger of two tries. Deep networks whose last maps have a handful of pixels amplify rounding: batch
  /// statistics of 2 values (inception_v3 at 107 pixels) hand on little more than a sign, and ReLU6 and max pools have
  /// kinks. No float32 run knows these numbers better, so a test may allow a small multiple of it beside its 1e-4.
  struct Movement {
    double logits = 0;
    std::map<std::string, double> gradients;
  };
  std::optional<Movement> moved;
  void measure_movement() {
    const std::vector<float> here = logits(true);
    const std::map<std::string, std::vector<float>> gradients = GoldenClassifier(name).gradients_of_step();
    Movement m;
    for (const char* stream : {"up or down", "up or down again"}) {
      GoldenClassifier other(name);
      const Fill fill(stream);
      std::vector<float> pixels = image.to_vector();
      for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::nextafter(pixels[i], fill.u(i) < 0.5 ? 0.0f : 2.0f);
      other.image.assign(pixels);
      m.logits = std::max(m.logits, relative_error(other.logits(true), here));
      GoldenClassifier again(name);  // running statistics as at first
      again.image.assign(pixels);
      for (const auto& [tensor, values] : again.gradients_of_step()) {
        std::vector<float> difference = values;
        for (std::size_t i = 0; i < values.size(); ++i) difference[i] -= gradients.at(tensor)[i];
        double& most = m.gradients[tensor];
        most = std::max(most, l2(difference) / std::sqrt(static_cast<double>(values.size())));
      }
    }
    moved = m;
  }
  std::map<std::string, std::vector<float>> gradients_of_step() {
    const auto labels = g.fact_json("labels").get<std::vector<std::int64_t>>();
    classify::train_step({.device = device, .frozen_bn = FrozenBn::batch}, *model, image, labels, 0);
    std::map<std::string, std::vector<float>> gradients;
    for (const Parameter* p : model->parameters()) gradients[p->name] = to_host(p->grad, p->torch_shape).to_f32();
    return gradients;
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
    if (g.has("train_logits"))
      CHECK(relative_error(logits(true), g.at("train_logits").f32()) < 1e-4 + 4 * (moved ? moved->logits : 0));
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
      const double count = static_cast<double>(values.size()), slack = moved ? moved->gradients.at(names[i]) : 0;
      CHECK(std::abs(l2(values) - norms[i]) < 1e-4 * norms[i] + 4 * slack * std::sqrt(count));
      const std::vector<float> mine = first(values, 8);
      const double scale = norms[i] / std::sqrt(count);  // a typical value
      for (std::size_t k = 0; k < 8; ++k) {
        const double expected = first8[i * 8 + k];
        CHECK(std::abs(mine[k] - expected) < 1e-4 * std::max(4 * scale, std::abs(expected)) + 8 * slack);
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
