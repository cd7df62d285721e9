#pragma once
#include <filesystem>
#include <string>

#include "engine/report/observer.h"

namespace frost::yolo {

/// The values of yolo-val's flags (docs/spec/val.md section 1), under YOLOv5's names and with its defaults.
struct ValConfig {
  std::string data = "data/coco128.yaml", weights = "yolov5s.pt";
  int batch_size = 32, imgsz = 640;
  double conf_thres = 0.001, iou_thres = 0.6;
  int max_det = 300;
  std::string task = "val", device;
  int workers = 8;
  bool single_cls = false, verbose = false, save_txt = false, save_conf = false, save_json = false;
  std::filesystem::path project = "runs/val";
  std::string name = "exp";
  bool exist_ok = false, half = false, noplots = false;
  std::string precision = "auto";
  bool cuda_graph = true, deterministic = false, tf32 = false;  // CUDA
  double prune = 0;     // share of each convolution's weights to zero, after fusion, as YOLOv5's pruning tutorial does
  bool strict = false;  // a corrupt image or label ends the run instead of being left out
};

/// Validates as val.py does and returns the run's folder. Throws Error: one line with the file and the cause.
std::filesystem::path run_validation(const ValConfig& config, Observer& observer);

}  // namespace frost::yolo
