#pragma once
#include <vector>

#include "models/classify/classifier.h"

namespace frost::classify {

class SeparableConv;
class XceptionBlock;

/// Xception (Chollet 2017) under timm's names: convolutions that are split into a depthwise 3x3 and a 1x1, twelve blocks
/// with shortcuts, mean over the image, `fc`.
class Xception : public Classifier {
 public:
  Xception(Device& device, int classes, Seed seed);
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  Linear& head() const override { return *fc_; }
  void draw_weights(Rng rng) override;
  int usual_imgsz() const override { return 320; }  // 299, in whole strides
  Preprocessing preprocessing() const override { return {.mean = {0.5f, 0.5f, 0.5f}, .stddev = {0.5f, 0.5f, 0.5f}}; }

 private:
  struct Stem {
    Conv2d* conv;
    FusedConvNorm fused;
  };
  std::vector<Stem> stem_;
  std::vector<XceptionBlock*> blocks_;
  std::vector<SeparableConv*> last_;
  Linear* fc_ = nullptr;
};

}  // namespace frost::classify
