#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/checkpoint/safetensors.h"
#include "engine/image/image.h"
#include "engine/nn/module.h"
#include "models/freeze.h"
#include "models/prediction.h"

namespace frost {

/// The input that a family's weights expect: R G B in 0..1, minus `mean`, divided by `stddev`.
struct Preprocessing {
  enum class Framing : std::uint8_t {
    letterbox,  // the whole image resized, the rest of the canvas grey
    crop,       // the shorter side resized to 8/7 of the size, then the centre
    square,     // the centre square, resized
  };
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, stddev{0.229f, 0.224f, 0.225f};
  Framing framing = Framing::crop;
};

/// The seed of fresh weights; none: weights stay 0, for a model whose weights are loaded next.
using Seed = std::optional<std::uint64_t>;

/// The interface of every family of networks: a module with layers, classes and the preprocessing of images. Training,
/// freezing, pruning, explain and checkpoints use only this interface.
class Model : public Module {
 public:
  const std::string& architecture() const { return architecture_; }  // "yolov5n", "resnet18"
  Device& device() { return parameters().at(0)->value.device(); }
  virtual int classes() const = 0;
  virtual int stride() const = 0;                          // image sides must be multiples of it
  virtual int smallest_imgsz() const { return stride(); }  // for which every window fits
  virtual int usual_imgsz() const { return 224; }          // unless another is asked for
  virtual int channels() const { return 3; }               // of an image
  virtual Preprocessing preprocessing() const { return {}; }
  /// What --freeze counts.
  const LayerNames& layers() const { return layers_; }
  /// What layer i is: "C3", "Conv2d", "stage".
  virtual std::string layer_type(int i);

  /// The network's outputs for images (n, h, w, 3): head maps, or logits.
  virtual std::vector<Var> outputs(Context& context, const Var& image) = 0;
  /// The detections in the outputs for one image, best first, in pixels of the network's input. A classifier: every class
  /// with its probability, without a box.
  virtual std::vector<Detection> decode(const std::vector<Var>& outputs, const PredictOptions& options) = 0;
  /// How many first layers have no trainable parameter and can be computed separately; 0: the family cannot be split.
  virtual int frozen_prefix() { return 0; }
  /// The outputs of the layers below `cut` that layers above read; cut 0: the image.
  virtual std::vector<Var> features(Context& context, const Var& image, int cut);
  /// Runs the layers from `cut` on: outputs(context, image) = outputs_from(context, cut, features(context, image, cut)).
  virtual std::vector<Var> outputs_from(Context& context, int cut, const std::vector<Var>& features);

  /// The metadata with which a checkpoint can build this model again.
  virtual Metadata metadata() const = 0;
  /// "resnet18 summary: 62 layers, 11177538 parameters, 11177538 gradients, 1.8 GFLOPs at 224".
  virtual std::string summary(int imgsz) = 0;

  /// The same graph with the same widths, constants, names and trainable flags, on any device. Its values are not drawn.
  std::unique_ptr<Model> copy_architecture(Device& device);
  /// Every parameter trains, except those that `terms` name, as in --freeze: {"10"}, {"backbone"}, {"!fc"}. Returns the
  /// frozen names. Throws Error for terms that match nothing.
  std::vector<std::string> freeze(const std::vector<std::string>& terms) { return frost::freeze(*this, layers_, terms); }
  /// Sets other classes. If their number changes, the last layer gets fresh values.
  void set_classes(const std::vector<std::string>& names, std::uint64_t seed = 0) {
    if (names.size() != static_cast<std::size_t>(classes())) make_head(static_cast<int>(names.size()), seed);
    this->names = names;
  }
  /// What is on an image, best first. A detector: boxes in pixels of the image, clipped to it. A classifier: its classes
  /// with their probabilities; each box is the whole image. Several images: one list for each. For many images use a
  /// Predictor (models/families/predict.h): it keeps what is expensive to build.
  std::vector<Detection> predict(const Image& image, const PredictOptions& options = {});
  std::vector<std::vector<Detection>> predict(std::span<const Image> images, const PredictOptions& options = {});
  /// Writes a checkpoint that load_model opens.
  void save(const std::filesystem::path& file);

  std::vector<std::string> names;  // of the classes

 protected:
  explicit Model(std::string architecture = "") : architecture_(std::move(architecture)) {}
  /// Builds the model again from the constructor's arguments, without values. copy_architecture does widths and the rest.
  virtual std::unique_ptr<Model> build_again(Device& device) = 0;
  /// A last layer with fresh values for so many classes.
  virtual void make_head(int classes, std::uint64_t seed) = 0;
  /// Sets all names; the classes are "0", "1", ... The last step of every constructor.
  void finish(LayerNames layers);

  std::string architecture_;

 private:
  LayerNames layers_;
};

/// The contents of a model file, whichever program wrote it.
struct StoredModel {
  std::filesystem::path file;
  std::unique_ptr<Model> model;
  StateDict state;    // its tensors, in the file's types
  Metadata metadata;  // its texts
};

/// Keys of the metadata of frost's own .safetensors. Tensors have the model's names; while training there are also `ema.*`
/// and `optimizer.*`.
namespace checkpoint_key {
inline constexpr const char *format = "frost.format", *classifier = "frost.classifier", *yaml = "model.yaml",
                            *yaml_file = "model.yaml_file", *cutoff = "cutoff", *names = "names", *stride = "stride",
                            *hyp = "hyp", *epoch = "epoch", *best_fitness = "best_fitness", *date = "date",
                            *bn_eps = "bn_eps", *bn_momentum = "bn_momentum";
inline constexpr const char *ema_prefix = "ema.", *optimizer_prefix = "optimizer.";
}  // namespace checkpoint_key

}  // namespace frost
