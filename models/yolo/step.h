#pragma once
#include <vector>

#include "models/graph/detection_model.h"

namespace frost::yolo {

/// What the loss needs besides the maps.
struct LossSettings {
  DetectLossGains gains;
  std::vector<float> balance{4.0f, 1.0f, 0.4f};
  bool autobalance = false;
};

/// Loss of raw head maps against targets (count, 6): image, class, x, y, w, h normalised. No gradient.
DetectLossResult detection_loss(Device&, const DetectionModel&, const std::vector<Var>& maps,
                                const std::vector<float>& targets, LossSettings& settings);

/// Forward, loss and backward of one batch, images (n, h, w, 3) in the context's type: gradients are added to the trainable
/// parameters. A new tape is used for the call; `recompute`: see Tape.
DetectLossResult train_step(Context context, DetectionModel& model, const Tensor& images, const std::vector<float>& targets,
                            LossSettings& settings, bool recompute = true);

}  // namespace frost::yolo
