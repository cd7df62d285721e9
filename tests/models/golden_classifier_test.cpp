#include <doctest/doctest.h>

#include "engine/optim/optimizer.h"
#include "tests/device.h"
#include "tests/models/golden_classifier.h"

// Classifiers against torchvision in float64 (golden/README.md B) and against the fixtures of docs/spec/classify.md sections
// 5 and 7. 1e-4 of each tensor's scale: some twenty to fifty convolutions in float32.
using namespace frost;
using namespace frost::golden;
using frost::golden::File;
using frost::testing::TestDevice;

namespace {

/// The fill of docs/spec/model.md section 10: generator number t, element e.
double numbered(std::uint64_t t, std::uint64_t e) {
  std::uint64_t z = ((t << 32) + e + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  z = z ^ (z >> 31);
  return 2 * static_cast<double>(z >> 40) / 16777216.0 - 1;
}
/// Fills a model by that rule and returns the count of floating tensors.
std::uint64_t fill_numbered(Module& model) {
  StateDict state;
  std::uint64_t t = 0;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape, std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::size_t e = 0; e < values.size(); ++e) {
      const double u = numbered(t, e);
      double v = 0.1 * u;
      if (shape.size() == 4)
        v = u * std::sqrt(3.0 / static_cast<double>(shape[1] * shape[2] * shape[3]));
      else if (shape.size() == 2)
        v = u * std::sqrt(3.0 / static_cast<double>(shape[1]));
      else if (name.ends_with("running_var"))
        v = 1 + 0.5 * u;
      else if (name.ends_with("weight"))
        v = 1 + 0.1 * u;
      values[e] = static_cast<float>(v);
    }
    state.add(name, HostTensor::from_f32(shape, values));
    ++t;
  };
  model.visit({.parameter = [&](Parameter& p) { add(p.name, p.torch_shape, p.value.elements()); },
               .buffer = [&](Buffer& b) { add(b.name, b.torch_shape, b.value.elements()); },
               .counter = {}});
  load_state(model, state);
  return t;
}
/// The images of number 9999: (n, 3, 64, 64), 0.5 + 0.5 u.
frost::Tensor numbered_images(Device& device, std::int64_t n) {
  std::vector<float> values(static_cast<std::size_t>(n * 3 * 64 * 64));
  for (std::size_t e = 0; e < values.size(); ++e) values[e] = static_cast<float>(0.5 + 0.5 * numbered(9999, e));
  return frost::Tensor::from(device, {n, 64, 64, 3}, nhwc(values, n, 3, 64, 64), Role::input);
}

}  // namespace

TEST_CASE("golden classifiers: names, parameters, logits") {
  for (const std::string name : {"resnet18", "resnet34", "resnet50", "vgg16", "vgg16_bn"}) {
    CAPTURE(name);
    GoldenClassifier(name).check_logits();
  }
}

TEST_CASE("golden classifiers in 16 bits: logits, a step's loss and gradient, where the device is not the CPU") {
  TestDevice device;
  for (const DType type : half_types(device))
    for (const std::string name : {"resnet18", "resnet34", "resnet50", "vgg16", "vgg16_bn"})
      SUBCASE(in_type(type, name).c_str()) {
        GoldenClassifier c(name);
        CHECK(relative_error(c.logits(false, type), c.g.at("eval_logits").f32()) < tolerance(type));
        if (name != "resnet18") continue;
        const auto labels = c.g.fact_json("labels").get<std::vector<std::int64_t>>();
        const float scale = type == DType::f16 ? 128 : 1;
        classify::LossState loss(c.device, std::ssize(labels), 0);
        loss.grad_scale = frost::Tensor::from(c.device, {1, 1, 1, 1}, {scale});
        loss.set_labels(labels);
        classify::train_step({.device = c.device, .compute = type}, *c.model, as_type(c.image, type), loss);
        CHECK(loss.value().to_vector()[0] == doctest::Approx(std::stod(c.g.fact("all.loss"))).epsilon(tolerance(type)));
        double mine = 0, expected = 0;
        for (const Parameter* p : c.model->parameters()) mine += std::pow(l2(p->grad.to_vector()) / scale, 2);
        for (const float norm : c.g.at("all.grad.l2").f32()) expected += std::pow(static_cast<double>(norm), 2);
        CHECK(std::sqrt(mine) == doctest::Approx(std::sqrt(expected)).epsilon(tolerance(type)));
      }
}

TEST_CASE("golden resnet18: loss and gradients, all trained and all but fc frozen, kept and rematerialized") {
  for (const std::string variant : {"all", "fc_only"})
    for (const bool recompute : {true, false}) {
      CAPTURE(variant);
      CAPTURE(recompute);
      GoldenClassifier("resnet18").check_step(variant, recompute);
    }
}

TEST_CASE("docs/spec/classify.md section 5: logits of 1000 classes") {
  struct Fixture {
    const char* name;
    std::uint64_t tensors;
    std::vector<float> logits;
    double sum;
    std::ptrdiff_t argmax;
  };
  for (const Fixture& f :
       {Fixture{"resnet18", 102, {-0.42664f, 0.855f, 0.65256f, 0.65437f, 0.83368f}, -10.9035, 337},
        Fixture{"resnet34", 182, {1.03752f, 2.49093f, -0.27737f, 0.29111f, -1.17291f}, -2.1716, 183},
        Fixture{"resnet50", 267, {-0.61578f, -0.18571f, -0.36574f, -0.52277f, 0.00936f}, -25.1085, 575}}) {
    CAPTURE(f.name);
    TestDevice device(TestDevice::fastest);
    const auto model = classify::make_classifier(device, f.name, 1000, {});
    CHECK(fill_numbered(*model) == f.tensors);
    Context context{.device = device};
    const auto logits = model->forward(context, {numbered_images(device, 1), -1, nullptr}).value.to_vector();
    for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(logits[i] - f.logits[i]) < 2e-5);  // printed with five digits
    double sum = 0;
    for (const float v : logits) sum += v;
    CHECK(std::abs(sum - f.sum) < 1e-3);  // 1000 of them, each within some 1e-6
    CHECK(std::max_element(logits.begin(), logits.end()) - logits.begin() == f.argmax);
  }
}

TEST_CASE("docs/spec/classify.md section 7: feature extraction with Adam on fc alone, train and eval mode") {
  struct Fixture {
    bool train;
    std::vector<double> losses, weights, bias;
    double bn1_mean_sum;
  };
  for (const Fixture& f :
       {Fixture{
            true, {1.14046, 0.991998, 0.879545, 0.786458}, {0.047025, 0.071725, 0.068368}, {0.003226, -0.003226}, -1.556866},
        Fixture{false,
                {0.694022, 0.686963, 0.685377, 0.676005},
                {0.048199, 0.067882, 0.06394},
                {-0.000553, 0.000553},
                0.566856}}) {
    CAPTURE(f.train);
    TestDevice device(TestDevice::fastest);
    const auto model = classify::make_classifier(device, "resnet18", 2, {});
    fill_numbered(*model);
    std::vector<float> fc(1024);
    for (std::size_t e = 0; e < fc.size(); ++e) fc[e] = static_cast<float>(numbered(500, e) * std::sqrt(3.0 / 512));
    model->head().weight.value.assign(fc);
    model->head().bias.value.fill_zero();
    for (Parameter* p : model->parameters()) p->trainable = p->name.starts_with("fc.");
    ParameterArena arena(device, *model, 0, false);
    std::int64_t trained = 0;
    for (ParameterGroup& group : arena.groups()) {
      group.lr = 0.001f;
      for (const Parameter* p : group.members) trained += p->value.elements();
    }
    CHECK(trained == 1026);
    Optimizer optimizer(arena, device, OptimizerKind::adam);
    const frost::Tensor images = numbered_images(device, 4);
    for (const double expected : f.losses) {
      const float loss = classify::train_step({.device = device, .frozen_bn = FrozenBn::batch}, *model, images, {0, 1, 0, 1},
                                              0, true, f.train);
      CHECK(std::abs(loss - expected) < 2e-5);
      optimizer.step(0.9f, 0);
    }
    const std::vector<float> weight = model->head().weight.value.to_vector(), bias = model->head().bias.value.to_vector();
    for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(weight[i] - f.weights[i]) < 2e-6);
    for (std::size_t i = 0; i < 2; ++i) CHECK(std::abs(bias[i] - f.bias[i]) < 2e-6);
    for (Buffer* b : model->buffers())
      if (b->name == "bn1.running_mean") {
        double sum = 0;
        for (const float v : b->value.to_vector()) sum += v;
        CHECK(std::abs(sum - f.bn1_mean_sum) < 1e-5);
      }
  }
}
