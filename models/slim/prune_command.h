#pragma once
#include <filesystem>
#include <string>

#include "engine/report/observer.h"
#include "engine/tensor/run_device.h"
#include "models/model.h"

namespace frost::slim {

/// How a model is pruned.
struct PruneConfig {
  std::filesystem::path save;  // the pruned .safetensors
  std::string method = "l1";   // l1, global, nm, filters
  double amount = 0.3;
  std::string pattern = "2:4";    // of nm
  std::string importance = "l1";  // of filters: l1, bn
  int multiple = 8;               // of filters: what the counts that stay are rounded up to
  bool dense = false;             // a plain file, without masks
};

/// Prunes the model and writes the result. Throws Error: one line with the file and the cause.
void prune(const PruneConfig& config, const RunDevice& run, StoredModel& stored, Observer& observer);

}  // namespace frost::slim
