#pragma once
#include "models/classify/classifier.h"

namespace frost::classify {

/// torchvision's MobileNetV2: a stem, 17 inverted residuals, a last 1x1 convolution; mean over the image, dropout, linear.
class MobileNetV2 : public Classifier {
 public:
  MobileNetV2(Device& device, int classes, Seed seed);
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  Linear& head() const override { return *head_; }
  void draw_weights(Rng rng) override;

 private:
  Sequential& features_;
  Sequential& classifier_;
  Linear* head_ = nullptr;
};

}  // namespace frost::classify
