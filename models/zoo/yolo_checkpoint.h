#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/checkpoint/host_tensor.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/torch_file.h"
#include "models/model.h"
#include "models/zoo/module_comparison.h"

namespace frost {

/// What a detector's checkpoint says, whichever program wrote it.
struct YoloCheckpoint {
  StateDict state;        // under PyTorch names (model.0.conv.weight), in the stored type: f16 in released files
  std::string yaml_text;  // the model's graph as YAML: nc, depth_multiple, width_multiple, anchors, backbone, head, ...
  std::string yaml_file;  // the name of the YAML it was built from; may be empty
  std::vector<std::string> names;   // one for each class
  std::vector<float> strides;       // of the head's maps
  std::vector<float> head_strides;  // as the head itself says; .pt only
  int nc = 0;
  int epoch = -1;  // last finished epoch, from 0; -1: training is over
  double best_fitness = 0;
  double bn_eps = 1e-3, bn_momentum = 0.03;
  std::map<std::string, double> hyp;
  std::map<std::string, std::string> activations;  // of each module with an `act`: "model.0" -> "nn.SiLU()"; .pt only
  std::vector<PickledModule> modules;              // parents before children; .pt only
  std::string date;
  std::string source;                 // "ema" or "model": the part that `state` came from
  Metadata metadata;                  // all of a .safetensors; of a .pt the texts at its top
  std::vector<std::string> warnings;  // odd but loadable: NaN in a weight, ...
};

/// Released files hold only `model`; while training, `ema` is the smoothed copy that is tested and `model` the raw one.
enum class CheckpointPart {
  ema_or_model,  // to detect, validate, export
  model,         // to train on from these weights
};

/// Reads a YOLOv5 `.pt` or frost's `.safetensors`; the content decides which, not the name. Throws frost::Error, one line
/// with the file and the cause: missing, empty, truncated, hostile, another kind of model. See docs/spec/checkpoint.md
/// sections 3 and 7.
YoloCheckpoint load_yolo_checkpoint(const std::filesystem::path& path, CheckpointPart part = CheckpointPart::ema_or_model);

/// Throws Error where `model` was made by the ultralytics package (v8 and later): its models are others.
void refuse_ultralytics(const TorchFile& file, pickle::Ref model);

/// The metadata of frost's own file for this checkpoint; `checkpoint.metadata` is kept, the known keys replace its own.
Metadata metadata_of(const YoloCheckpoint& checkpoint);
/// Writes frost's own file, atomically. `extra`: further tensors, under ema_prefix or optimizer_prefix.
void save_yolo_checkpoint(const std::filesystem::path& path, const YoloCheckpoint& checkpoint, const StateDict& extra = {});

}  // namespace frost
