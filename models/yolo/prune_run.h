#pragma once
#include <filesystem>
#include <string>

namespace frost::yolo {

/// Everything yolo-prune's flags say.
struct PruneConfig {
  std::string weights;         // a .pt, a .safetensors, a release name
  std::filesystem::path save;  // the pruned .safetensors
  std::string method = "l1";   // l1, global, nm, filters
  double amount = 0.3;
  std::string pattern = "2:4";    // of nm
  std::string importance = "l1";  // of filters: l1, bn
  bool dense = false;             // a plain file, without masks
  std::string data, device;       // data: validates before and after
  int imgsz = 640, batch_size = 32;
};

/// Prunes a trainable checkpoint and writes the result. Throws Error: one line with the file and the cause.
void run_prune(const PruneConfig& config);

}  // namespace frost::yolo
