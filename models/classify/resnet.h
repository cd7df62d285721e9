#pragma once
#include <memory>
#include <vector>

#include "models/classify/classifier.h"

namespace frost::classify {

/// x --- conv1 3x3 (stride) - bn1 - ReLU - conv2 3x3 - bn2 --- (+) - ReLU
///    `----------------- downsample, or as it is -----------------'
class BasicBlock : public Module {
 public:
  static constexpr int kExpansion = 1;
  BasicBlock(Device& device, std::int64_t in, std::int64_t width, int stride);
  std::string torch_class() const override { return "BasicBlock"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Activate& relu_;
  Conv2d& conv2_;
  BatchNorm2d& bn2_;
  ConvNormAct* downsample_;  // null: the shortcut is x
  FusedConvNorm first_, second_;
};

/// x --- conv1 1x1 - bn1 - ReLU - conv2 3x3 (stride) - bn2 - ReLU - conv3 1x1, four times as wide - bn3 --- (+) - ReLU
///    `------------------------------- downsample, or as it is -------------------------------------------'
class BottleneckBlock : public Module {
 public:
  static constexpr int kExpansion = 4;
  BottleneckBlock(Device& device, std::int64_t in, std::int64_t width, int stride);
  std::string torch_class() const override { return "Bottleneck"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Conv2d& conv2_;
  BatchNorm2d& bn2_;
  Conv2d& conv3_;
  BatchNorm2d& bn3_;
  Activate& relu_;
  ConvNormAct* downsample_;
  FusedConvNorm first_, second_, third_;
};

enum class ResNetKind { resnet18, resnet34, resnet50 };

/// torchvision's ResNet (docs/spec/classify.md section 4): stem, four stages of blocks, mean over the image, `fc`.
class ResNet : public Classifier {
 public:
  ResNet(Device& device, ResNetKind kind, int classes, Seed seed);
  std::string torch_class() const override { return "ResNet"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  Linear& head() const override { return *fc_; }
  void draw_weights(Rng rng) override;

 private:
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Activate& relu_;
  MaxPool2d& maxpool_;
  FusedConvNorm stem_;
  std::vector<Sequential*> stages_;
  AdaptiveAvgPool2d* avgpool_ = nullptr;
  Linear* fc_ = nullptr;
};

}  // namespace frost::classify
