#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/persistent_workspace.h"
#include "kernels/view.h"

namespace frost {

/// One Detect level: its map is NHWC with channel = anchor * (5 + classes) + attribute (x y w h objectness classes...).
struct DetectLevel {
  ConstView head;                // raw logits
  std::vector<float> anchors{};  // (anchors, 2): width, height in grid units
  float stride = 8;              // pixels for each cell
};

struct DetectLossGains {
  float box = 0.05f, obj = 1.0f, cls = 0.5f;  // after the rescaling of docs/spec/loss.md section 7
  float cls_pw = 1, obj_pw = 1, anchor_t = 4, fl_gamma = 0, label_smoothing = 0;
};

/// Target assignment, CIoU, objectness and class losses, and the gradient for the head maps, in one pass (docs/spec/loss.md
/// sections 2 to 5). Nothing is copied to the host: results stay in device memory. Sizes depend only on shapes and the
/// capacity, so a captured step can be replayed with other targets in the same memory.
struct DetectLoss {
  std::vector<DetectLevel> levels{};
  std::vector<View> dheads;  // one a level, f32, bf16 or f16, overwritten; empty: no gradient wanted
  std::int64_t classes = 80;
  /// (target_capacity, 6) in the device's memory: image, class, x, y, w, h normalised to 0..1. A row with a negative image
  /// index is padding. The others are the caller's to check (check_detect_targets); a device that cannot throw for an
  /// impossible one makes the loss NaN.
  const float* targets = nullptr;
  std::int64_t target_capacity = 0;
  DetectLossGains gains;
  float* balance = nullptr;           // device, one a level: 4, 1, 0.4
  bool autobalance = false;           // updates `balance` (docs/spec/loss.md section 4)
  const float* grad_scale = nullptr;  // device scalar: multiplies the gradient, not the loss; null: 1
  float* result = nullptr;            // device, kDetectLossResults values as in DetectLossResult, overwritten
  void* workspace = nullptr;          // device, Backend::detect_loss_workspace() bytes
};
constexpr int kDetectLossResults = 4;  // loss, box, obj, cls

/// A DetectLoss's result, once it is on the host.
struct DetectLossResult {
  float loss = 0;                // (box + obj + cls) * batch
  std::array<float, 3> items{};  // box, obj, cls after gains, not times the batch
};

/// Throws where a target, given on the host, cannot be one: not finite, no such image or class, a negative size.
inline void check_detect_targets(const float* targets, std::int64_t count, std::int64_t batch, std::int64_t classes) {
  for (std::int64_t t = 0; t < count; ++t) {
    const float* row = targets + 6 * t;
    if (row[0] < 0) continue;
    for (int k = 0; k < 6; ++k) FROST_CHECK(std::isfinite(row[k]), "detect_loss: target ", t, " holds ", row[k]);
    FROST_CHECK(row[0] < static_cast<float>(batch), "detect_loss: target ", t, " has image index ", row[0],
                ", the batch has ", batch, " images");
    FROST_CHECK(row[1] > -1 && row[1] < static_cast<float>(classes), "detect_loss: target ", t, " has class ", row[1],
                ", the model has ", classes, " classes");
    FROST_CHECK(row[4] >= 0 && row[5] >= 0, "detect_loss: target ", t, " has size ", row[4], " x ", row[5]);
  }
}

/// Logits to boxes: rows (x, y, w, h, objectness, classes...) in pixels of the network's input, level, anchor, row, column
/// order (docs/spec/val.md section 2). Rows with objectness <= conf_threshold are left out; a negative threshold keeps all.
struct DetectDecode {
  std::vector<DetectLevel> levels{};
  std::int64_t classes = 80;
  float conf_threshold = -1;
};
struct DecodedRows {
  PersistentWorkspace memory{};        // of the device: (sum of counts, 5 + classes), image after image
  std::vector<std::int64_t> counts{};  // one an image
  const float* data() const { return static_cast<const float*>(memory.get()); }
};

struct Detection {
  float x1, y1, x2, y2, confidence;
  int label;
};
/// Greedy non-maximum suppression of decoded rows, each image for itself (docs/spec/val.md section 3); no time limit. One
/// list an image, best first, on the host.
struct Nms {
  const float* rows = nullptr;             // of the device: (sum of row_counts, 5 + classes), image after image
  std::vector<std::int64_t> row_counts{};  // one an image
  std::int64_t classes = 80;
  float conf_threshold = 0.25f;  // strict: a score must exceed it
  double iou_threshold = 0.45;   // strict; double, since upstream compares f32 overlaps with the double 0.6
  bool multi_label = false, agnostic = false;
  std::int64_t max_detections = 300, max_candidates = 30000;
  std::vector<int> keep_classes{};  // empty: all
};

}  // namespace frost
