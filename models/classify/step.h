#pragma once
#include <cstdint>
#include <vector>

#include "models/classify/classifier.h"

namespace frost::classify {

/// Mean cross entropy of f32 logits (n, 1, 1, classes) against labels, with label smoothing. `gradient`, where given, is
/// overwritten with d loss / d logits.
float cross_entropy(Device& device, const Tensor& logits, const std::vector<std::int64_t>& labels, float label_smoothing,
                    Tensor* gradient = nullptr);

/// Forward, loss and backward of one batch, images (n, h, w, 3) preprocessed, in the context's type: gradients are added to
/// the trainable parameters. `training` false: as in evaluation, with running statistics and without dropout, but with
/// gradients. Returns the loss; `logits`, where given, receives the logits.
float train_step(Context context, Classifier& model, const Tensor& images, const std::vector<std::int64_t>& labels,
                 float label_smoothing, bool recompute = true, bool training = true, Tensor* logits = nullptr);

}  // namespace frost::classify
