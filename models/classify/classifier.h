#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/nn/layers.h"
#include "models/slim/freeze.h"

namespace frost::classify {

/// What a family's weights expect of an image: R G B in 0..1, minus `mean`, over `deviation`.
struct Preprocessing {
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, deviation{0.229f, 0.224f, 0.225f};
  bool square =
      false;  // YOLOv5: the middle square, resized; else the shorter side resized to 8/7 of the size, then the crop
};

/// Of fresh weights; none: weights stay 0, for a model that is about to be loaded.
using Seed = std::optional<std::uint64_t>;

/// An image classifier: forward(image) gives logits, f32 (n, 1, 1, classes). Parameters have the names of torchvision's, or
/// YOLOv5's, state dict.
class Classifier : public Module {
 public:
  const std::string& architecture() const { return architecture_; }  // "resnet18"
  int classes() const { return static_cast<int>(head().out); }
  /// The last layer, which belongs to the classes: `fc`, `classifier.6`, `model.9.linear`.
  virtual Linear& head() const = 0;
  virtual Preprocessing preprocessing() const { return {}; }
  /// What --freeze counts.
  const slim::LayerNames& layers() const { return layers_; }
  /// What a checkpoint must say to build this model again, besides the architecture and the names.
  virtual std::map<std::string, std::string> facts() const { return {}; }

  static constexpr int kStride = 32;  // of all families here: image sides must be multiples of it
  std::vector<std::string> names;     // of the classes

  /// --imgsz rounded up to a multiple of kStride, with a warning where this changes it.
  static int whole_strides(int imgsz);
  void set_dropout(float p);
  /// Fresh weights for convolutions and linear layers of whichever width; norms are left as they are.
  virtual void draw_weights(Rng rng) = 0;
  /// "resnet18 summary: 62 layers, 11177538 parameters, 11177538 gradients, 1.8 GFLOPs at 224".
  std::string summary(Device& device, int imgsz);

 protected:
  explicit Classifier(std::string architecture) : architecture_(std::move(architecture)) {}
  /// Names everything, the classes "0", "1", ...; every constructor's last step.
  void finish(slim::LayerNames layers);

 private:
  std::string architecture_;
  slim::LayerNames layers_;
};

/// Builds a classifier with fresh weights: resnet18, resnet34, resnet50, resnet50v2, vgg16, vgg16_bn, yolov5{n,s,m,l,x}-cls.
/// `cutoff` (YOLOv5 only): the detector's layers 0 to cutoff - 2 are the backbone. Throws Error, with the list, for an
/// unknown name.
std::unique_ptr<Classifier> make_classifier(Device& device, const std::string& architecture, int classes, Seed seed = 0,
                                            int cutoff = 10);
std::vector<std::string> classifier_names();

/// He's initialisation for what a ReLU follows: normal with deviation sqrt(2 / (out * kh * kw)); a bias becomes 0.
void initialise_for_relu(Conv2d& conv, Rng& rng);

}  // namespace frost::classify
