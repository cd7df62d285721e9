#pragma once
#include <array>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/report/observer.h"
#include "models/yolo/data/batches.h"
#include "models/yolo/evaluation/metrics.h"
#include "models/yolo/training/step.h"

namespace frost::yolo {

/// One image's outcome, in pixels of the native image, best first.
struct ImageDetections {
  std::string path;
  int width = 0, height = 0;
  Shape2 canvas;  // the network's input
  std::vector<Detection> native;
};

struct ValidateOptions {
  float conf_thres = 0.001f;
  double iou_thres = 0.6;
  std::int64_t max_det = 300;
  bool single_cls = false;
  DType compute = DType::f32;
  bool cuda_graph = true;              // capture the network where the device can
  std::optional<LossSettings> loss{};  // given: the three losses are computed
  std::string label{};                 // of the progress bar
  Observer& observer = silence();
  /// Called for every image after its detections were matched: label files, JSON.
  std::function<void(const ImageDetections&)> image_done{};
  /// Sees the first batches with their labels and detections, in pixels of the canvas: pictures.
  std::function<void(std::int64_t batch, const DetectionBatch&, const std::vector<std::vector<Detection>>&)> batch_done{};
};

struct ValidationResult {
  std::int64_t images = 0;  // that could be decoded
  DetectionSummary summary;
  ConfusionMatrix confusion;
  std::array<double, 3> losses{};                   // box, obj, cls: means over batches
  double pre_ms = 0, inference_ms = 0, nms_ms = 0;  // for each image
};

/// Runs the model, in evaluation mode, over all batches of the loader and computes the metrics (docs/spec/val.md section
/// 4).
ValidationResult validate(Device& device, DetectionModel& model, DetectionLoader& loader, const ValidateOptions& options);

/// Uploads u8 pixels and makes them the network's input, 0..1 in the compute type.
Tensor network_input(Device& device, const DetectionBatch& batch, DType compute);

}  // namespace frost::yolo
