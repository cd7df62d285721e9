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

/// What the loss reads and writes in the device's memory besides the maps, made once and used by every step, so a captured
/// step finds new targets at the same address.
class LossState {
 public:
  /// Room for `target_capacity` targets a batch.
  LossState(Device&, const LossSettings&, std::int64_t target_capacity);

  /// targets (count, 6): image, class, x, y, w, h normalised; image is one of `batch`. Errors: impossible ones, and more
  /// than there is room for.
  void set_targets(const std::vector<float>& targets, std::int64_t batch, std::int64_t classes);
  std::int64_t target_capacity() const { return targets_.shape().w; }

  /// Queues the loss of raw head maps and, where `gradients` is not empty, their gradients.
  void run(const DetectionModel&, const std::vector<Var>& maps, const std::vector<Tensor>& gradients);

  Tensor items() const { return result_.part(1, {1, 1, 1, 3}); }  // box, obj, cls of the last run(), on the device
  DetectLossResult result() const;                                // of the last run(); waits for the device
  std::vector<float> balance() const;                             // as autobalance has left it; waits for the device

  Tensor grad_scale;  // one f32 on the device that multiplies the gradients; empty: 1

 private:
  LossSettings settings_;
  Tensor targets_, balance_, result_, workspace_;
};

/// u8 pixels on the device as the network's input, 0..1 in the compute type.
Tensor normalised(Device& device, const Tensor& pixels, DType compute);

/// Loss of raw head maps against targets (count, 6) as in LossState. No gradient.
DetectLossResult detection_loss(Device&, const DetectionModel&, const std::vector<Var>& maps,
                                const std::vector<float>& targets, LossSettings& settings);

/// What comes out of the layers below `cut` and is read above it (DetectionModel::crossing). Cut 0: the images themselves.
struct PrefixOutput {
  int cut = 0;
  std::vector<Tensor> values;
};

/// Forward, loss and backward of one batch, images (n, h, w, 3) in the context's type: gradients are added to the trainable
/// parameters. A new tape is used for the call; `recompute`: see Tape. The targets are those of `loss`, where the result can
/// be read later.
void train_step(Context context, DetectionModel& model, const Tensor& images, LossState& loss, bool recompute = true);
/// The same from the layer `input.cut` on: the layers below are frozen and were computed before.
void train_step(Context context, DetectionModel& model, const PrefixOutput& input, LossState& loss, bool recompute = true);

/// The same with targets from the host, waiting for the result.
DetectLossResult train_step(Context context, DetectionModel& model, const Tensor& images, const std::vector<float>& targets,
                            LossSettings& settings, bool recompute = true);
DetectLossResult train_step(Context context, DetectionModel& model, const PrefixOutput& input,
                            const std::vector<float>& targets, LossSettings& settings, bool recompute = true);

}  // namespace frost::yolo
