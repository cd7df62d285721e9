#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/autograd/ops.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/nn/module.h"
#include "engine/tensor/run_device.h"

namespace frost::slim {

/// Everything yolo-prune's flags say.
struct PruneConfig {
  std::string weights;         // a .pt, a .pth, a .safetensors, a release name
  std::filesystem::path save;  // the pruned .safetensors
  std::string method = "l1";   // l1, global, nm, filters
  double amount = 0.3;
  std::string pattern = "2:4";    // of nm
  std::string importance = "l1";  // of filters: l1, bn
  int multiple = 8;               // of filters: what the counts that stay are rounded up to
  bool dense = false;             // a plain file, without masks
  std::string data, device;       // data: validates before and after
  int imgsz = 0;                  // of that; 0: what the family is usually validated at
  int batch_size = 32;
};

/// The model that a file holds, as its family presents it.
struct PruneSubject {
  std::filesystem::path file;
  std::shared_ptr<Module> model;
  std::string summary;  // a line
  StateDict stored;     // the file's tensors: what stays keeps their types
  Metadata metadata;    // the file's texts
  Shape image;          // the smallest one that passes
  std::function<std::vector<Var>(Context&, const Var& image)> forward;
  /// Writes a checkpoint of this state, with these texts in its metadata, where the model does not say otherwise.
  std::function<void(const std::filesystem::path& to, StateDict state, const Metadata& about)> save;
  std::function<void(const std::string& weights)> validate;  // on PruneConfig::data
};

/// Prunes the model and writes the result. Throws Error: one line with the file and the cause.
void prune(const PruneConfig& config, const RunDevice& run, const PruneSubject& subject);

}  // namespace frost::slim
