#pragma once
#include <vector>

#include "kernels/detect.h"
#include "models/yolo/training/hyp.h"

namespace frost::yolo {

/// The hyperparameters with the three gains fitted to the number of levels, classes and the image size
/// (640 px, 80 classes, 3 levels leave them as they are) and label smoothing from the command line (docs/spec/loss.md
/// section 7).
Hyp rescaled(Hyp hyp, int levels, int classes, int image_size, float label_smoothing);

/// What detect_loss takes: the gains of rescaled(hyp, ...).
DetectLossGains scaled_gains(const Hyp& hyp, int levels, int classes, int image_size, float label_smoothing);

/// Weights of the levels' objectness losses (docs/spec/loss.md section 4). Errors: more than 5 levels.
std::vector<float> default_balance(int levels);

}  // namespace frost::yolo
