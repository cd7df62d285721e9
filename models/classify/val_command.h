#pragma once
#include <filesystem>
#include <string>

#include "engine/report/observer.h"

namespace frost::classify {

/// The values of classify-val's flags (docs/spec/classify.md section 2).
struct ValConfig {
  std::string data, weights;
  int batch_size = 128, imgsz = 224;
  std::string device;
  int workers = 8;
  bool verbose = true;
  bool strict = false;  // a corrupt picture ends the run instead of being left out
  std::filesystem::path project = "runs/val-cls";
  std::string name = "exp";
  bool exist_ok = false, half = false, noplots = false;
  std::string precision = "auto";
  bool cuda_graph = true, deterministic = false, tf32 = false;  // CUDA
};
/// Validates as classify/val.py does and returns the run's folder. Throws Error: one line with the file and the cause.
std::filesystem::path run_validation(const ValConfig& config, Observer& observer);

}  // namespace frost::classify
