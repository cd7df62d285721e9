#pragma once
#include <string>
#include <vector>

#include "engine/nn/layers.h"
#include "engine/nn/widths.h"
#include "models/graph/blocks.h"
#include "models/graph/detect.h"
#include "models/graph/model_yaml.h"
#include "models/model.h"

namespace frost {

/// A YOLOv5 graph built from its YAML: docs/spec/model.md sections 1 to 7.
class DetectionModel : public Model {
 public:
  /// Builds, initialises from `seed` as PyTorch would distribute, finds the strides. `widths`: the widths of the
  /// convolutions in a pruned model's checkpoint; the spec then gives the graph and the head's number of outputs.
  DetectionModel(Device& device, ModelSpec spec, Seed seed = 0, const Widths& widths = {});

  int classes() const override { return detect_->classes; }
  int stride() const override;  // the largest stride, at least 32
  int channels() const override { return static_cast<int>(spec_.channels); }
  Preprocessing preprocessing() const override;
  std::vector<Detection> decode(const std::vector<Var>& outputs, const PredictOptions& options) override;
  std::string layer_type(int i) override;
  int usual_imgsz() const override { return 640; }
  std::vector<Var> outputs(Context& context, const Var& image) override { return heads(context, image); }
  Metadata metadata() const override;
  std::string summary(int) override { return summary(false, false); }

  /// The raw head maps, one for each level. `observe`, if given, gets each layer's output (tests, feature maps).
  std::vector<Var> heads(Context& context, const Var& image, const std::function<void(int, const Var&)>& observe = {});
  /// How many of the first layers have no trainable parameter, Detect not counted: the frozen prefix.
  int frozen_prefix() override;
  /// The layers below `cut` whose outputs layers from `cut` on read, ascending; -1 is the image.
  std::vector<int> crossing(int cut) const;
  /// Runs the layers below `cut`: the outputs of crossing(cut).
  std::vector<Var> features(Context& context, const Var& image, int cut) override;
  std::vector<Var> outputs_from(Context& context, int cut, const std::vector<Var>& features) override {
    return heads_from(context, cut, features);
  }
  /// Runs the layers from `cut` on: heads(context, image) = heads_from(context, cut, features(context, image, cut)).
  std::vector<Var> heads_from(Context& context, int cut, const std::vector<Var>& features,
                              const std::function<void(int, const Var&)>& observe = {});
  Detect& detect() { return *detect_; }
  const Detect& detect() const { return *detect_; }
  const ModelSpec& spec() const { return spec_; }

  struct Row {  // what the printed table shows
    int index, number;
    std::string from, type, arguments;
    std::int64_t parameters;
  };
  const std::vector<Row>& rows() const { return rows_; }
  /// YOLOv5's table of layers.
  std::string table() const;
  /// "YOLOv5n summary: 214 layers, 1872157 parameters, 1872157 gradients, 4.6 GFLOPs"; `fused`: as after Conv+BN fusion.
  std::string summary(bool fused, bool gradients);

 protected:
  std::unique_ptr<Model> build_again(Device& device) override;
  void make_head(int classes, std::uint64_t seed) override;

 private:
  struct Layer {
    Module* module;
    std::vector<int> from;  // absolute; -1: the image
  };
  void fit(Widths widths);
  void describe_widths(const std::vector<std::int64_t>& built, const std::vector<std::int64_t>& channels);
  void build(const BlockBuilder& builder, const LayerSpec& spec, std::vector<std::int64_t>& channels, Sequential& graph);
  std::vector<float> try_pass(const std::vector<std::int64_t>& channels, bool fitted);
  /// Runs layers [first, last) on `outputs`, whose place i + 1 is layer i's and whose first is the image. The head maps
  /// where Detect is among them.
  std::vector<Var> run(Context& context, std::vector<Var>& outputs, int first, int last,
                       const std::function<void(int, const Var&)>& observe);

  Device& device_;
  ModelSpec spec_;
  std::vector<Layer> layers_;
  std::vector<int> uses_;  // for each layer the last layer that reads it
  std::vector<Row> rows_;
  Detect* detect_ = nullptr;
};

}  // namespace frost
