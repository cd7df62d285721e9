#include "models/classify/resnet_v2.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace frost::classify {
namespace {

constexpr Activation kRelu{ActivationKind::relu};

std::unique_ptr<Conv2d> conv(Device& device, std::int64_t in, std::int64_t out, int kernel, int stride, bool bias) {
  return std::make_unique<Conv2d>(device, in, out, square(kernel, stride), bias);
}
std::unique_ptr<BatchNorm2d> norm(Device& device, std::int64_t channels) {
  return std::make_unique<BatchNorm2d>(device, channels, 1.001e-5f, 0.01f);
}

/// Glorot: uniform in +-sqrt(6 / (fan_in + fan_out)); a bias becomes 0. Keras' default.
void initialise(Parameter& weight, Parameter* bias, Rng& rng) {
  const Shape s = weight.value.shape();
  const double bound = std::sqrt(6.0 / static_cast<double>((s.n + s.c) * s.h * s.w));
  std::vector<float> values(static_cast<std::size_t>(s.elements()));
  for (float& value : values) value = static_cast<float>(rng.uniform(-bound, bound));
  weight.value.assign(values);
  weight.touch();
  if (bias) bias->value.fill_zero(), bias->touch();
}

}  // namespace

PreActivationBlock::PreActivationBlock(Device& device, std::int64_t in, std::int64_t width, int stride, bool first_of_stage)
    : preact_bn_(add_child("preact_bn", norm(device, in))),
      shortcut_(add_optional_child("0_conv", first_of_stage ? conv(device, in, 4 * width, 1, stride, true) : nullptr)),
      conv1_(add_child("1_conv", conv(device, in, width, 1, 1, false))),
      bn1_(add_child("1_bn", norm(device, width))),
      conv2_(add_child("2_conv", conv(device, width, width, 3, stride, false))),
      bn2_(add_child("2_bn", norm(device, width))),
      conv3_(add_child("3_conv", conv(device, width, 4 * width, 1, 1, true))),
      first_(conv1_, bn1_),
      second_(conv2_, bn2_),
      stride_(stride) {}

Var PreActivationBlock::forward(Context& context, const Var& x, const Output& output) {
  const Device::ScopeGuard scope(context.device, name());
  const Var p = preact_bn_.apply(context, x, kRelu);
  const Var shortcut = shortcut_      ? shortcut_->forward(context, p)
                       : stride_ == 1 ? x
                                      : max_pool(context, x, {.kernel = 1, .stride = stride_});
  const Var narrow = first_.forward(context, p, kRelu);
  const Var y = second_.forward(context, narrow, kRelu);
  return add(context, shortcut, conv3_.forward(context, y), output);
}

ResNetV2::ResNetV2(Device& device, int classes, Seed seed)
    : Classifier("resnet50v2"), conv1_(add_child("conv1_conv", conv(device, 3, 64, 7, 2, true))) {
  constexpr std::array<int, 4> kBlocks{3, 4, 6, 3};
  LayerNames layers{.prefixes = {{"conv1_conv."}}, .backbone = 5};
  std::int64_t channels = 64;
  for (int s = 0; s < 4; ++s) {
    const std::int64_t width = 64 << s;
    const int blocks = kBlocks[static_cast<std::size_t>(s)];
    for (int b = 1; b <= blocks; ++b) {
      const int stride = b == blocks && s < 3 ? 2 : 1;
      blocks_.push_back(&add_child(fmt::format("conv{}_block{}", s + 2, b),
                                   std::make_unique<PreActivationBlock>(device, channels, width, stride, b == 1)));
      channels = 4 * width;
    }
    layers.prefixes.push_back({fmt::format("conv{}_", s + 2)});
  }
  layers.prefixes.back().push_back("post_bn.");
  post_bn_ = &add_child("post_bn", norm(device, channels));
  predictions_ = &add_child("predictions", std::make_unique<Linear>(device, channels, classes));
  layers.prefixes.push_back({"predictions."});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void ResNetV2::draw_weights(Rng rng) {
  walk([&](const std::string&, Module& module) {
    if (auto* c = dynamic_cast<Conv2d*>(&module)) initialise(c->weight, c->bias, rng);
  });
  initialise(predictions_->weight, &predictions_->bias, rng);
}

Var ResNetV2::stem(Context& context, const Var& x) {
  const Device::ScopeGuard scope(context.device, conv1_.name());
  const Var y = zero_pad(context, conv1_.forward(context, x), 1, 1, 1, 1);  // zeros, not minus infinity: y may be negative
  return max_pool(context, y, {.kernel = 3, .stride = 2});
}

Var ResNetV2::forward(Context& context, const Var& x, const Output&) {
  Var y = stem(context, x);
  for (PreActivationBlock* block : blocks_) y = block->forward(context, y);
  y = post_bn_->apply(context, y, kRelu);
  return predictions_->forward(context, average_pool(context, y, 1, 1));
}

}  // namespace frost::classify
