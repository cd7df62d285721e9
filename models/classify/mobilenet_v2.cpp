#include "models/classify/mobilenet_v2.h"

#include <fmt/format.h>

namespace frost::classify {
namespace {

constexpr Activation kRelu6{ActivationKind::relu6};

std::unique_ptr<ConvNormAct> block(Device& device, std::int64_t in, std::int64_t out, int kernel, int stride, int groups,
                                   Activation activation, const char* conv = "0", const char* bn = "1") {
  return std::make_unique<ConvNormAct>(device, in, out, square(kernel, stride, groups), activation,
                                       ConvNormSettings{1e-5f, 0.1f, conv, bn, ""});
}

/// x --- 1x1, `expansion` times as wide - depthwise 3x3 (stride) - 1x1 without activation --- (+)
///    `------------------------- where the shape stays, as it is -----------------------------'
class InvertedResidual : public Module {
 public:
  InvertedResidual(Device& device, std::int64_t in, std::int64_t out, int expansion, int stride)
      : residual_(stride == 1 && in == out) {
    const std::int64_t wide = in * expansion;
    if (expansion > 1) expand_ = &add_child("conv.0", block(device, in, wide, 1, 1, 1, kRelu6));
    depthwise_ = &add_child(expansion > 1 ? "conv.1" : "conv.0",
                            block(device, wide, wide, 3, stride, static_cast<int>(wide), kRelu6));
    project_ = &add_child("conv", expansion > 1 ? block(device, wide, out, 1, 1, 1, {}, "2", "3")
                                                : block(device, wide, out, 1, 1, 1, {}, "1", "2"));
  }
  Var forward(Context& context, const Var& x, const Output& output = {}) override {
    const Var wide = expand_ ? expand_->forward(context, x) : x;
    return project_->forward(context, depthwise_->forward(context, wide), residual_ ? &x : nullptr, output);
  }

 private:
  bool residual_;
  ConvNormAct *expand_ = nullptr, *depthwise_ = nullptr, *project_ = nullptr;
};

struct Stage {
  int expansion;
  std::int64_t channels;
  int blocks, stride;  // the first block strides
};
constexpr Stage kStages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                             {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};

}  // namespace

MobileNetV2::MobileNetV2(Device& device, int classes, Seed seed)
    : Classifier("mobilenet_v2"),
      features_(add_child("features", std::make_unique<Sequential>())),
      classifier_(add_child("classifier", std::make_unique<Sequential>())) {
  features_.append(block(device, 3, 32, 3, 2, 1, kRelu6));
  std::int64_t in = 32;
  for (const Stage& stage : kStages)
    for (int b = 0; b < stage.blocks; ++b, in = stage.channels)
      features_.append(
          std::make_unique<InvertedResidual>(device, in, stage.channels, stage.expansion, b == 0 ? stage.stride : 1));
  features_.append(block(device, in, 1280, 1, 1, 1, kRelu6));
  classifier_.append(std::make_unique<DropoutLayer>(0.2f));
  head_ = &classifier_.append(std::make_unique<Linear>(device, 1280, classes));

  LayerNames layers{.prefixes = {}, .backbone = static_cast<int>(features_.size())};
  for (std::size_t i = 0; i < features_.size(); ++i) layers.prefixes.push_back({fmt::format("features.{}.", i)});
  layers.prefixes.push_back({"classifier."});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void MobileNetV2::draw_weights(Rng rng) {
  walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) initialise_for_relu(*conv, rng);
  });
  head_->initialise_normal(rng, 0.01);
}

Var MobileNetV2::forward(Context& context, const Var& x, const Output&) {
  return classifier_.forward(context, average_pool(context, features_.forward(context, x), 1, 1));
}

}  // namespace frost::classify
