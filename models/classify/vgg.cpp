#include "models/classify/vgg.h"

#include <fmt/format.h>

namespace frost::classify {
namespace {

constexpr Activation kRelu{ActivationKind::relu};

}  // namespace

Vgg16::Vgg16(Device& device, bool batch_norm, int classes, Seed seed) : Classifier(batch_norm ? "vgg16_bn" : "vgg16") {
  auto features = std::make_unique<Sequential>();
  LayerNames layers{.prefixes = {}, .backbone = 5};
  std::int64_t in = 3;
  for (const auto& [width, convs] : {std::pair{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}) {
    auto& stage = stages_.emplace_back();
    auto& prefixes = layers.prefixes.emplace_back();
    const std::size_t first = features->size();
    for (int i = 0; i < convs; ++i, in = width) {
      Step step{.conv = &features->append(std::make_unique<Conv2d>(device, in, width, square(3), true)), .fused = {}};
      if (batch_norm)
        step.fused.emplace(*step.conv, features->append(std::make_unique<BatchNorm2d>(device, width)));
      features->append(std::make_unique<Activate>(kRelu));
      stage.push_back(std::move(step));
    }
    features->append(std::make_unique<MaxPool2d>(PoolGeometry{.kernel = 2, .stride = 2}));
    for (std::size_t i = first; i < features->size(); ++i) prefixes.push_back(fmt::format("features.{}.", i));
  }
  add_child("features", std::move(features));

  avgpool_ = &add_child("avgpool", std::make_unique<AdaptiveAvgPool2d>(7, 7));
  classifier_ = &add_child("classifier", std::make_unique<Sequential>());
  classifier_->append(std::make_unique<Linear>(device, 512, 4096, 7, 7));
  classifier_->append(std::make_unique<Activate>(kRelu));
  classifier_->append(std::make_unique<DropoutLayer>(0.5f));
  classifier_->append(std::make_unique<Linear>(device, 4096, 4096));
  classifier_->append(std::make_unique<Activate>(kRelu));
  classifier_->append(std::make_unique<DropoutLayer>(0.5f));
  head_ = &classifier_->append(std::make_unique<Linear>(device, 4096, classes));
  for (const char* name : {"classifier.0.", "classifier.3.", "classifier.6."}) layers.prefixes.push_back({name});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void Vgg16::draw_weights(Rng rng) {
  walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) initialise_for_relu(*conv, rng);
    if (auto* linear = dynamic_cast<Linear*>(&module)) linear->initialise_normal(rng, 0.01);
  });
}

Var Vgg16::conv_relu(Context& context, const Var& x, Step& step) {
  const Device::ScopeGuard scope(context.device, step.conv->name());
  if (step.fused) return step.fused->forward(context, x, kRelu);
  return step.conv->forward_act(context, x, kRelu);
}

Var Vgg16::forward(Context& context, const Var& x, const Output&) {
  Var y = x;
  for (auto& stage : stages_) {
    const Device::ScopeGuard scope(context.device, stage.front().conv->name());
    for (Step& step : stage) y = conv_relu(context, y, step);
    y = max_pool(context, y, {.kernel = 2, .stride = 2});
  }
  return classifier_->forward(context, avgpool_->forward(context, y));
}

}  // namespace frost::classify
