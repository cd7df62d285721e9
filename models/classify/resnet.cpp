#include "models/classify/resnet.h"

#include <fmt/format.h>

#include <array>

namespace frost::classify {
namespace {

constexpr Activation kRelu{ActivationKind::relu};

std::unique_ptr<Conv2d> conv(Device& device, std::int64_t in, std::int64_t out, int kernel, int stride) {
  return std::make_unique<Conv2d>(device, in, out, square(kernel, stride), false);
}
std::unique_ptr<BatchNorm2d> norm(Device& device, std::int64_t channels) {
  return std::make_unique<BatchNorm2d>(device, channels);
}
/// The shortcut where a block changes the shape: a 1x1 convolution (`0`) and its norm (`1`), no activation. Null where it
/// can be the input itself.
std::unique_ptr<ConvNormAct> downsample(Device& device, std::int64_t in, std::int64_t out, int stride) {
  if (stride == 1 && in == out) return nullptr;
  return std::make_unique<ConvNormAct>(device, in, out, square(1, stride), Activation{},
                                       ConvNormSettings{1e-5f, 0.1f, "0", "1", "Sequential"});
}

struct Plan {
  const char* name;
  std::array<int, 4> blocks;  // of each stage
  bool bottleneck;
};
Plan plan_of(ResNetKind kind) {
  switch (kind) {
    case ResNetKind::resnet18:
      return {"resnet18", {2, 2, 2, 2}, false};
    case ResNetKind::resnet34:
      return {"resnet34", {3, 4, 6, 3}, false};
    case ResNetKind::resnet50:
      return {"resnet50", {3, 4, 6, 3}, true};
  }
  fail("resnet: unknown kind");
}

/// A stage: the first block strides and widens.
template <class Block>
std::unique_ptr<Sequential> stage(Device& device, std::int64_t& channels, std::int64_t width, int blocks, int stride) {
  auto chain = std::make_unique<Sequential>();
  for (int b = 0; b < blocks; ++b) {
    chain->append(std::make_unique<Block>(device, channels, width, b == 0 ? stride : 1));
    channels = width * Block::kExpansion;
  }
  return chain;
}

}  // namespace

BasicBlock::BasicBlock(Device& device, std::int64_t in, std::int64_t width, int stride)
    : conv1_(add_child("conv1", conv(device, in, width, 3, stride))),
      bn1_(add_child("bn1", norm(device, width))),
      relu_(add_child("relu", std::make_unique<Activate>(kRelu))),
      conv2_(add_child("conv2", conv(device, width, width, 3, 1))),
      bn2_(add_child("bn2", norm(device, width))),
      downsample_(add_optional_child("downsample", downsample(device, in, width, stride))),
      first_(conv1_, bn1_),
      second_(conv2_, bn2_) {}

Var BasicBlock::forward(Context& context, const Var& x, const Output& output) {
  const Device::ScopeGuard scope(context.device, name());
  const Var shortcut = downsample_ ? downsample_->forward(context, x) : x;
  const Var y = first_.forward(context, x, relu_.kind);
  return second_.forward(context, y, relu_.kind, {&shortcut, ResidualOrder::before_activation}, output);
}

BottleneckBlock::BottleneckBlock(Device& device, std::int64_t in, std::int64_t width, int stride)
    : conv1_(add_child("conv1", conv(device, in, width, 1, 1))),
      bn1_(add_child("bn1", norm(device, width))),
      conv2_(add_child("conv2", conv(device, width, width, 3, stride))),
      bn2_(add_child("bn2", norm(device, width))),
      conv3_(add_child("conv3", conv(device, width, width * kExpansion, 1, 1))),
      bn3_(add_child("bn3", norm(device, width * kExpansion))),
      relu_(add_child("relu", std::make_unique<Activate>(kRelu))),
      downsample_(add_optional_child("downsample", downsample(device, in, width * kExpansion, stride))),
      first_(conv1_, bn1_),
      second_(conv2_, bn2_),
      third_(conv3_, bn3_) {}

Var BottleneckBlock::forward(Context& context, const Var& x, const Output& output) {
  const Device::ScopeGuard scope(context.device, name());
  const Var shortcut = downsample_ ? downsample_->forward(context, x) : x;
  const Var narrow = first_.forward(context, x, relu_.kind);
  const Var y = second_.forward(context, narrow, relu_.kind);
  return third_.forward(context, y, relu_.kind, {&shortcut, ResidualOrder::before_activation}, output);
}

ResNet::ResNet(Device& device, ResNetKind kind, int classes, Seed seed)
    : Classifier(plan_of(kind).name),
      conv1_(add_child("conv1", conv(device, 3, 64, 7, 2))),
      bn1_(add_child("bn1", norm(device, 64))),
      relu_(add_child("relu", std::make_unique<Activate>(kRelu))),
      maxpool_(add_child("maxpool", std::make_unique<MaxPool2d>(PoolGeometry{.kernel = 3, .stride = 2, .pad = 1}))),
      stem_(conv1_, bn1_) {
  const Plan plan = plan_of(kind);
  LayerNames layers{.prefixes = {{"conv1.", "bn1."}}, .backbone = 5};
  std::int64_t channels = 64;
  for (int s = 0; s < 4; ++s) {
    const int blocks = plan.blocks[static_cast<std::size_t>(s)], stride = s == 0 ? 1 : 2;
    const std::int64_t width = 64 << s;
    auto chain = plan.bottleneck ? stage<BottleneckBlock>(device, channels, width, blocks, stride)
                                 : stage<BasicBlock>(device, channels, width, blocks, stride);
    const std::string name = fmt::format("layer{}", s + 1);
    stages_.push_back(&add_child(name, std::move(chain)));
    layers.prefixes.push_back({name + "."});
  }
  avgpool_ = &add_child("avgpool", std::make_unique<AdaptiveAvgPool2d>(1, 1));
  fc_ = &add_child("fc", std::make_unique<Linear>(device, channels, classes));
  layers.prefixes.push_back({"fc."});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void ResNet::draw_weights(Rng rng) {
  walk([&](const std::string&, Module& module) {
    if (auto* c = dynamic_cast<Conv2d*>(&module)) initialise_for_relu(*c, rng);
  });
  fc_->initialise(rng);
}

Var ResNet::forward(Context& context, const Var& x, const Output&) {
  Var y = x;
  {
    const Device::ScopeGuard scope(context.device, conv1_.name());
    y = maxpool_.forward(context, stem_.forward(context, y, relu_.kind));
  }
  for (Sequential* stage : stages_) y = stage->forward(context, y);
  return fc_->forward(context, avgpool_->forward(context, y));
}

}  // namespace frost::classify
