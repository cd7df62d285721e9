#pragma once
#include <vector>

#include "models/yolo/labels.h"

namespace frost::yolo {

/// How well anchors fit a data set (spec/train.md section 13).
struct AnchorFit {
  double best_possible_recall = 0;  // share of boxes with an anchor within the ratio limit
  double anchors_per_target = 0;    // mean number of anchors within the limit
};

/// `anchors`: w, h pairs in pixels at `imgsz`; `limit`: hyp.anchor_t.
AnchorFit anchor_fit(const std::vector<float>& anchors, const std::vector<LabeledImage>& images, int imgsz, double limit);

}  // namespace frost::yolo
