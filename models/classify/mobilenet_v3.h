#pragma once
#include "models/classify/classifier.h"

namespace frost::classify {

enum class MobileNetV3Kind { small, large };

/// torchvision's MobileNetV3: a stem, inverted residuals with squeeze-excite, a last 1x1 convolution; mean over the image,
/// linear, hard-swish, dropout, linear.
class MobileNetV3 : public Classifier {
 public:
  MobileNetV3(Device& device, MobileNetV3Kind kind, int classes, Seed seed);
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  Linear& head() const override { return *head_; }
  void draw_weights(Rng rng) override;

 private:
  Sequential& features_;
  Sequential& classifier_;
  Linear* head_ = nullptr;
};

}  // namespace frost::classify
