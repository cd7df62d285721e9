#pragma once
#include <vector>

#include "models/classify/classifier.h"

namespace frost::classify {

/// A pre-activation block, f wide inside and 4 f outside:
///
/// x --- preact_bn - ReLU --- 1_conv 1x1 - 1_bn - ReLU - 2_conv 3x3 (stride) - 2_bn - ReLU - 3_conv 1x1 --- (+)
///    |                    `-- first block of a stage: 0_conv 1x1 -----------------------------------------'
///    `-- other blocks: x, every second pixel of it where the block strides --------------------------------'
class PreActivationBlock : public Module {
 public:
  PreActivationBlock(Device& device, std::int64_t in, std::int64_t width, int stride, bool first_of_stage);
  Var forward(Context& context, const Var& x, const Output& output = {}) override;

 private:
  BatchNorm2d& preact_bn_;
  Conv2d* shortcut_;
  Conv2d& conv1_;
  BatchNorm2d& bn1_;
  Conv2d& conv2_;
  BatchNorm2d& bn2_;
  Conv2d& conv3_;
  FusedConvNorm first_, second_;
  int stride_;
};

/// Keras' ResNet-50 V2 (docs/spec/classify.md section 6): a stage strides in its last block; norm and ReLU end the network.
/// Names are Keras', with a dot after the block: conv2_block1.preact_bn.weight.
class ResNetV2 : public Classifier {
 public:
  ResNetV2(Device& device, int classes, Seed seed);
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  /// conv1_conv and pool1_pool: (n, h, w, 3) -> (n, h / 4, w / 4, 64).
  Var stem(Context& context, const Var& x);
  Linear& head() const override { return *predictions_; }
  void draw_weights(Rng rng) override;
  Preprocessing preprocessing() const override { return {.mean = {0.5f, 0.5f, 0.5f}, .stddev = {0.5f, 0.5f, 0.5f}}; }

 private:
  Conv2d& conv1_;
  std::vector<PreActivationBlock*> blocks_;
  BatchNorm2d* post_bn_ = nullptr;
  Linear* predictions_ = nullptr;
};

}  // namespace frost::classify
