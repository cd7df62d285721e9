#pragma once
#include <cstdint>
#include <vector>

#include "models/classify/classifier.h"

namespace frost::classify {

/// What a step reads and writes in the device's memory besides the images, made once and used by every step of as many rows:
/// a step that was captured finds new labels and new random choices under the same address.
class LossState {
 public:
  LossState(Device&, std::int64_t rows, float label_smoothing);

  void set_labels(const std::vector<std::int64_t>&);  // one for each row
  void set_seed(std::uint64_t);                       // of dropout

  /// Queues the mean cross entropy of f32 logits (rows, 1, 1, classes) with label smoothing and, where `gradient` is given,
  /// its gradient.
  void run(const Tensor& logits, Tensor* gradient);

  Tensor value() const { return loss_; }  // of the last run(): (1, 1, 1, 1), on the device
  Tensor seed() const { return seed_; }   // for Context::seed

  Tensor grad_scale;  // one f32 on the device that multiplies the gradient; empty: 1

 private:
  Tensor labels_, seed_, loss_;
  float label_smoothing_;
};

/// Mean cross entropy of f32 logits (n, 1, 1, classes) against labels, with label smoothing. No gradient.
float cross_entropy(Device& device, const Tensor& logits, const std::vector<std::int64_t>& labels, float label_smoothing);

/// Forward, loss and backward of one batch, images (n, h, w, 3) preprocessed, in the context's type: gradients are added to
/// the trainable parameters. `training` false: as in evaluation, with running statistics and without dropout, but with
/// gradients. Labels and seed are those of `loss`, where the result can be read later.
void train_step(Context context, Classifier& model, const Tensor& images, LossState& loss, bool recompute = true,
                bool training = true);

/// The same with labels from the host, waiting for the loss.
float train_step(Context context, Classifier& model, const Tensor& images, const std::vector<std::int64_t>& labels,
                 float label_smoothing, bool recompute = true, bool training = true);

}  // namespace frost::classify
