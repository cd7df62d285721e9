#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/nn/layers.h"
#include "engine/report/observer.h"
#include "models/model.h"

namespace frost::classify {

/// An image classifier: forward(image) gives logits, f32 (n, 1, 1, classes). Parameters have the names of torchvision's, or
/// YOLOv5's, state dict.
class Classifier : public Model {
 public:
  int classes() const override { return static_cast<int>(head().out); }
  int stride() const override { return kStride; }
  std::vector<Var> outputs(Context& context, const Var& image) override { return {forward(context, image)}; }
  std::vector<Detection> decode(const std::vector<Var>& outputs, const PredictOptions& options) override;
  Metadata metadata() const override;
  std::string summary(int imgsz) override;
  /// The last layer, which belongs to the classes: `fc`, `classifier.6`, `model.9.linear`.
  virtual Linear& head() const = 0;

  /// How the names of tensors begin that the family's published files have and this network has not; "": none do.
  virtual std::string unread() const { return ""; }

  static constexpr int kStride = 32;  // of all families here
  /// --imgsz rounded up to a multiple of kStride, with a warning where this changes it.
  static int whole_strides(int imgsz, Observer& observer);
  void set_dropout(float p);
  /// Fresh weights for convolutions and linear layers of whichever width; norms are left as they are.
  virtual void draw_weights(Rng rng) = 0;

 protected:
  using Model::Model;
  std::unique_ptr<Model> build_again(Device& device) override;
  void make_head(int classes, std::uint64_t seed) override;
};

/// Builds a classifier with fresh weights, by one of classifier_names().
/// `cutoff` (YOLOv5 only): the detector's layers 0 to cutoff - 2 are the backbone. Throws Error, with the list, for an
/// unknown name.
std::unique_ptr<Classifier> make_classifier(Device& device, const std::string& architecture, int classes, Seed seed = 0,
                                            int cutoff = 10);
/// The names of all of them.
std::vector<std::string> classifier_names();

/// A square kernel, padded by half of it.
inline ConvGeometry square(int kernel, int stride = 1, int groups = 1) {
  const int pad = kernel / 2;
  return {.kernel_h = kernel,
          .kernel_w = kernel,
          .stride_h = stride,
          .stride_w = stride,
          .pad_h = pad,
          .pad_w = pad,
          .groups = groups};
}

/// He's initialisation for what a ReLU follows: normal with std sqrt(2 / (out * kh * kw)); a bias becomes 0.
void initialise_for_relu(Conv2d& conv, Rng& rng);
void initialise_normal(Conv2d& conv, Rng& rng, double std);  // a bias becomes 0 here too

}  // namespace frost::classify
