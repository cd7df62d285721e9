#pragma once
#include <string>
#include <vector>

#include "engine/nn/layers.h"
#include "kernels/detect.h"

namespace frost {

/// YOLOv5's head: one 1x1 convolution for each level; its NHWC output is already [row][column][anchor][attribute].
class Detect : public Module {
 public:
  /// `anchors` in pixels, one list a level; they are divided by the strides in set_strides.
  Detect(Device& device, int classes, const std::vector<std::vector<float>>& anchors,
         const std::vector<std::int64_t>& channels);
  std::string torch_class() const override { return "Detect"; }

  std::vector<Var> heads(Context& context, const std::vector<Var>& inputs);
  /// Anchor-order check, anchors to grid units, prior biases (docs/spec/model.md section 4, steps 3 to 5).
  void set_strides(const std::vector<float>& strides);
  /// Fresh convolutions for so many classes.
  void set_classes(int count, Rng rng);
  /// Takes anchors in pixels, (levels, anchors, 2), once the strides are set: divides them by the strides. If the levels'
  /// mean areas are in the opposite order to the strides, the levels are reversed; returns true then.
  bool set_anchors(std::vector<float> pixels);
  std::vector<float> anchor_pixels() const;
  std::vector<DetectLevel> levels(const std::vector<Var>& heads) const;

  int classes, anchors_each, levels_count;
  std::vector<float> strides;
  Buffer& anchors;  // (levels, anchors, 2), grid units once the strides are set
  std::vector<Conv2d*> convs;

 private:
  void add_prior();
  mutable std::vector<float> grid_;  // the anchors' values under that version, on the host
  mutable std::uint64_t grid_version_ = 0;
};

}  // namespace frost
