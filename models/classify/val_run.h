#pragma once
#include <filesystem>
#include <string>

namespace frost::classify {

/// Everything classify-val's flags say (spec/classify.md section 2).
struct ValConfig {
  std::string data, weights;
  int batch_size = 128, imgsz = 224;
  std::string device;
  int workers = 8;
  bool verbose = true;
  bool strict = false;  // a damaged picture ends the run instead of being left out
  std::filesystem::path project = "runs/val-cls";
  std::string name = "exp";
  bool exist_ok = false, half = false, noplots = false;
  std::string precision = "auto";
  bool cuda_graph = true, deterministic = false, tf32 = false;  // CUDA
};
/// Validates as classify/val.py does and returns the run's folder. Throws Error: one line with the file and the cause.
std::filesystem::path run_validation(const ValConfig& config);

/// Everything classify-predict's flags say (spec/classify.md section 3).
struct PredictConfig {
  std::string weights, source = "data/images";
  int imgsz = 224;
  std::string device;
  bool save_txt = false, nosave = false;
  std::filesystem::path project = "runs/predict-cls";
  std::string name = "exp";
  bool exist_ok = false, half = false;
  std::string precision = "auto";
  bool cuda_graph = true, deterministic = false, tf32 = false;  // CUDA
};
/// Says what is on each picture of a file or folder: the five likeliest classes. Returns the run's folder.
std::filesystem::path run_prediction(const PredictConfig& config);

}  // namespace frost::classify
