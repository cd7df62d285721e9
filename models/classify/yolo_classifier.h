#pragma once
#include "models/classify/classifier.h"
#include "models/graph/model_spec.h"

namespace frost::classify {

/// YOLOv5's Classify: 1x1 convolution to 1280 channels, norm, SiLU; mean over the image; dropout; `linear`.
class ClassifyHead : public Module {
 public:
  ClassifyHead(Device& device, std::int64_t in, int classes);
  std::string torch_class() const override { return "Classify"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override;
  Linear& linear() const { return linear_; }

 private:
  ConvNormAct& conv_;
  AdaptiveAvgPool2d& pool_;
  DropoutLayer& drop_;
  Linear& linear_;
};

/// The backbone of a YOLOv5 detector with Classify in place of its layer `cutoff` - 1 (docs/spec/classify.md section 1.4,
/// step 4).
class YoloClassifier : public Classifier {
 public:
  /// "yolov5n-cls": the graph of yolov5n.yaml.
  YoloClassifier(Device& device, const std::string& architecture, int classes, Seed seed, int cutoff = 10);
  /// The graph of a checkpoint.
  YoloClassifier(Device& device, const std::string& architecture, const ModelSpec& spec, int classes, Seed seed, int cutoff);
  std::string torch_class() const override { return "ClassificationModel"; }
  Var forward(Context& context, const Var& x, const Output& output = {}) override {
    return graph_.forward(context, x, output);
  }
  Linear& head() const override { return head_->linear(); }
  void draw_weights(Rng rng) override;
  Preprocessing preprocessing() const override { return {.framing = Preprocessing::Framing::square}; }
  Metadata metadata() const override;
  int cutoff() const { return static_cast<int>(graph_.size()); }

 protected:
  std::unique_ptr<Model> build_again(Device& device) override;

 private:
  ModelSpec spec_;
  Sequential& graph_;
  ClassifyHead* head_ = nullptr;
};

}  // namespace frost::classify
