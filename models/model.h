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

/// What a family's weights expect of an image: R G B in 0..1, minus `mean`, over `stddev`.
struct Preprocessing {
  enum class Framing : std::uint8_t {
    letterbox,  // resized as a whole, the rest of the canvas is grey
    crop,       // the shorter side resized to 8/7 of the size, then the middle
    square,     // the middle square, resized
  };
  std::array<float, 3> mean{0.485f, 0.456f, 0.406f}, stddev{0.229f, 0.224f, 0.225f};
  Framing framing = Framing::crop;
};

/// Of fresh weights; none: weights stay 0, for a model that is about to be loaded.
using Seed = std::optional<std::uint64_t>;

/// What every family of networks is: a module that knows its layers, its classes and how to look at an image. Training,
/// freezing, pruning, explaining and checkpoints need no more than this.
class Model : public Module {
 public:
  const std::string& architecture() const { return architecture_; }  // "yolov5n", "resnet18"
  Device& device() { return parameters().at(0)->value.device(); }
  virtual int classes() const = 0;
  virtual int stride() const = 0;                          // image sides must be multiples of it
  virtual int smallest_imgsz() const { return stride(); }  // that all windows find room in
  virtual int usual_imgsz() const { return 224; }          // where nobody says another
  virtual int channels() const { return 3; }               // of an image
  virtual Preprocessing preprocessing() const { return {}; }
  /// What --freeze counts.
  const LayerNames& layers() const { return layers_; }
  /// What layer i is: "C3", "Conv2d", "stage".
  virtual std::string layer_type(int i);

  /// What the network makes of an image (n, h, w, 3): head maps, or logits.
  virtual std::vector<Var> outputs(Context& context, const Var& image) = 0;
  /// What the outputs for one image say, best first, in pixels of the network's input. A classifier: every class with its
  /// probability, without a box.
  virtual std::vector<Detection> decode(const std::vector<Var>& outputs, const PredictOptions& options) = 0;
  /// How many of the first layers have no trainable parameter and can be computed apart; 0: the family cannot be split.
  virtual int frozen_prefix() { return 0; }
  /// What the layers below `cut` hand to those above; cut 0: the image.
  virtual std::vector<Var> features(Context& context, const Var& image, int cut);
  /// Runs the layers from `cut` on: outputs(context, image) = outputs_from(context, cut, features(context, image, cut)).
  virtual std::vector<Var> outputs_from(Context& context, int cut, const std::vector<Var>& features);

  /// What a checkpoint must say to build this model again.
  virtual Metadata metadata() const = 0;
  /// "resnet18 summary: 62 layers, 11177538 parameters, 11177538 gradients, 1.8 GFLOPs at 224".
  virtual std::string summary(int imgsz) = 0;

  /// The same graph with the same widths, constants, names and trainable flags, on any device. Its values are not drawn.
  std::unique_ptr<Model> copy_architecture(Device& device);
  /// Every parameter trains, except those that `terms` name, as in --freeze: {"10"}, {"backbone"}, {"!fc"}. Returns the
  /// frozen names. Throws Error for terms that fit nothing.
  std::vector<std::string> freeze(const std::vector<std::string>& terms) { return frost::freeze(*this, layers_, terms); }
  /// Other classes. Where their number changes, the last layer has fresh values.
  void set_classes(const std::vector<std::string>& names, std::uint64_t seed = 0) {
    if (names.size() != static_cast<std::size_t>(classes())) make_head(static_cast<int>(names.size()), seed);
    this->names = names;
  }
  /// What is on an image, best first. A detector: boxes in pixels of the image, clipped to it. A classifier: its classes
  /// with their probabilities; each box is the whole image. Several images: one list for each. For many images in a row a
  /// Predictor (models/families/predict.h) keeps what is costly to make.
  std::vector<Detection> predict(const Image& image, const PredictOptions& options = {});
  std::vector<std::vector<Detection>> predict(std::span<const Image> images, const PredictOptions& options = {});
  /// Writes a checkpoint that load_model opens.
  void save(const std::filesystem::path& file);

  std::vector<std::string> names;  // of the classes

 protected:
  explicit Model(std::string architecture = "") : architecture_(std::move(architecture)) {}
  /// The constructor's arguments again, without values. Widths and the rest are copy_architecture's.
  virtual std::unique_ptr<Model> build_again(Device& device) = 0;
  /// A last layer with fresh values for so many classes.
  virtual void make_head(int classes, std::uint64_t seed) = 0;
  /// Names everything, the classes "0", "1", ...; every constructor's last step.
  void finish(LayerNames layers);

  std::string architecture_;

 private:
  LayerNames layers_;
};

/// What a file holds of a model, whichever program wrote it.
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
