#pragma once
#include <vector>

#include "models/classify/classifier.h"

namespace frost::classify {

class MixedBlock;

/// torchvision's InceptionV3 without its auxiliary head: six convolutions, eleven blocks of parallel branches, mean over the
/// image, dropout, `fc`. The auxiliary head adds 0.4 of a second loss in torchvision's recipe for training from scratch; a
/// network that starts from weights trains without it. Its tensors in a file are skipped.
class InceptionV3 : public Classifier {
 public:
  InceptionV3(Device& device, int classes, Seed seed);
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  Linear& head() const override { return *fc_; }
  void draw_weights(Rng rng) override;
  /// What torchvision's weights expect: there the usual mean and std, and `transform_input` that converts them to these.
  Preprocessing preprocessing() const override { return {.mean = {0.5f, 0.5f, 0.5f}, .stddev = {0.5f, 0.5f, 0.5f}}; }
  int usual_imgsz() const override { return 320; }    // 299, in whole strides
  int smallest_imgsz() const override { return 96; }  // 75 pixels, in whole strides
  std::string unread() const override { return "AuxLogits."; }

 private:
  std::vector<ConvNormAct*> stem_;
  std::vector<MixedBlock*> blocks_;
  DropoutLayer* dropout_ = nullptr;
  Linear* fc_ = nullptr;
};

}  // namespace frost::classify
