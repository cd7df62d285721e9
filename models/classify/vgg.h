#pragma once
#include <optional>
#include <vector>

#include "models/classify/classifier.h"

namespace frost::classify {

/// torchvision's VGG-16, with or without batch norm (docs/spec/classify.md section 5): five stages of 3x3 convolutions with
/// ReLU, a 2x2 pool after each; means over a 7x7 grid; three linear layers.
class Vgg16 : public Classifier {
 public:
  Vgg16(Device& device, bool batch_norm, int classes, Seed seed);
  std::string torch_class() const override { return "VGG"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  Linear& head() const override { return *head_; }
  void draw_weights(Rng rng) override;

 private:
  struct Step {
    Conv2d* conv;
    std::optional<FusedConvNorm> fused;  // with its norm, where there is one
  };
  static Var conv_relu(Context& context, const Var& x, Step& step);

  std::vector<std::vector<Step>> stages_;
  AdaptiveAvgPool2d* avgpool_ = nullptr;
  Sequential* classifier_ = nullptr;
  Linear* head_ = nullptr;
};

}  // namespace frost::classify
