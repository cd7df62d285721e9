#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/autograd/ops.h"
#include "engine/optim/optimizer.h"

namespace frost::yolo {

/// Everything yolo-train's flags say (spec/train.md section 1), under YOLOv5's names and with its defaults.
struct TrainConfig {
  std::string weights = "yolov5s.pt", cfg, data = "data/coco128.yaml", hyp = "hyp.scratch-low.yaml";
  int epochs = 100, batch_size = 16, imgsz = 640;
  bool rect = false, nosave = false, noval = false, noautoanchor = false, noplots = false;
  std::string resume;       // a last.safetensors; empty: a new run
  std::string cache;        // "", "ram"
  std::string device = "";  // RunDevice's: "", "auto", "cpu", "cuda:N", "N"
  bool multi_scale = false, single_cls = false;
  OptimizerKind optimizer = OptimizerKind::sgd;
  int workers = 8;
  std::filesystem::path project = "runs/train";
  std::string name = "exp";
  bool exist_ok = false, cos_lr = false;
  double label_smoothing = 0;
  int patience = 100;
  std::vector<std::string> freeze{"0"};  // see slim::freeze
  int save_period = -1;
  std::uint64_t seed = 0;
  // frost's own
  std::vector<std::string> unfreeze_at;  // "5:6": from epoch 5 on only the first 6 layers are frozen; see UnfreezeStage
  std::vector<std::string> lr_scale;     // "model.0-9:0.1"; see slim::scale_learning_rates
  std::string cache_features;            // "", "ram", "disk": keeps what the frozen prefix makes of each image
  bool strict = false;                   // a damaged image or label ends the run instead of being left out
  int nbs = 64;                          // nominal batch: an optimizer step follows each so many images
  FrozenBn frozen_bn = FrozenBn::running;
  std::string prune_schedule;                // FROM:TO:EPOCHS: gradual magnitude pruning; empty: none
  std::string precision = "auto";            // f32, bf16, f16; auto: bf16 on a GPU that has it, else f32
  bool cuda_graph = true;                    // capture training steps where the device can
  bool deterministic = false, tf32 = false;  // see CudaChoices
  bool recompute = true;                     // make activations again in backward instead of keeping them
  bool dry_run = false;                      // say what a step costs and stop; nothing is trained or written
};

/// Trains as train.py does and returns the run's folder (empty after a dry run). Throws Error: one line with the file and
/// the cause.
std::filesystem::path train(const TrainConfig& config);

}  // namespace frost::yolo
