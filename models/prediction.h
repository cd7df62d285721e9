#pragma once
#include <optional>
#include <vector>

#include "kernels/detect.h"

namespace frost {

/// What Model::predict looks for, and how it computes. A classifier reads imgsz, max_det, classes, compute and cuda_graph.
struct PredictOptions {
  int imgsz = 0;             // of the longer side, pixels, made a multiple of the model's stride; 0: the family's usual one
  float conf_thres = 0.25f;  // detections of less confidence are left out
  double iou_thres = 0.45;   // of two boxes of a class that overlap more, the less confident one is left out
  int max_det = 1000;        // detections kept for an image
  std::vector<int> classes{};      // only these; empty: all
  bool agnostic_nms = false;       // boxes of different classes suppress each other too
  std::optional<DType> compute{};  // type of activations; empty: bf16 on a GPU, f32 on a CPU
  bool cuda_graph = true;          // capture the network once for each shape of its input, where the device can
};

}  // namespace frost
