#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "kernels/view.h"

namespace frost {

/// One Detect level: its map is NHWC with channel = anchor * (5 + classes) + attribute (x y w h objectness classes...).
struct DetectLevel {
  ConstView head;                // raw logits
  std::vector<float> anchors{};  // (anchors, 2): width, height in grid units
  float stride = 8;              // pixels for each cell
};

struct DetectLossGains {
  float box = 0.05f, obj = 1.0f, cls = 0.5f;  // after the rescaling of spec/loss.md section 7
  float cls_pw = 1, obj_pw = 1, anchor_t = 4, fl_gamma = 0, label_smoothing = 0;
};

/// Target assignment, CIoU, objectness and class losses, and the gradient for the head maps, in one pass (spec/loss.md).
struct DetectLoss {
  std::vector<DetectLevel> levels{};
  std::vector<View> dheads;  // one a level, f32, bf16 or f16, overwritten; empty: no gradient wanted
  std::int64_t classes = 80;
  const float* targets = nullptr;  // (target_count, 6): image, class, x, y, w, h normalised to 0..1
  std::int64_t target_count = 0;
  DetectLossGains gains;
  std::vector<float> balance;  // one a level: 4, 1, 0.4
  bool autobalance = false;    // updates `balance` (section 4)
  float grad_scale = 1;        // multiplies the gradient, not the loss
};
struct DetectLossResult {
  float loss = 0;                // (box + obj + cls) * batch
  std::array<float, 3> items{};  // box, obj, cls after gains, not times the batch
};

/// Logits to boxes: rows (x, y, w, h, objectness, classes...) in pixels of the network's input, level, anchor, row, column
/// order (spec/val.md section 2). Rows with objectness <= conf_threshold are left out; a negative threshold keeps all.
struct DetectDecode {
  std::vector<DetectLevel> levels{};
  std::int64_t classes = 80;
  float conf_threshold = -1;
  std::vector<std::vector<float>>* rows = nullptr;  // one flat (count, 5 + classes) vector for each image, overwritten
};

struct Detection {
  float x1, y1, x2, y2, confidence;
  int label;
};
/// Greedy non-maximum suppression of one image's decoded rows (spec/val.md section 3); no time limit. Detections come best
/// first. Stateless on the CPU: images may be handled by several threads at once.
struct Nms {
  const float* rows = nullptr;  // (row_count, 5 + classes)
  std::int64_t row_count = 0, classes = 80;
  float conf_threshold = 0.25f;  // strict: a score must exceed it
  double iou_threshold = 0.45;   // strict; double, since upstream compares f32 overlaps with the double 0.6
  bool multi_label = false, agnostic = false;
  std::int64_t max_detections = 300, max_candidates = 30000;
  std::vector<int> keep_classes{};  // empty: all
};

}  // namespace frost
