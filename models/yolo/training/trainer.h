#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/autograd/ops.h"
#include "engine/optim/optimizer.h"
#include "engine/report/observer.h"

namespace frost {
class DetectionModel;
namespace run {
struct RunResult;
}
}  // namespace frost

namespace frost::yolo {

/// The values of yolo-train's flags (docs/spec/train.md section 1), under YOLOv5's names and with its defaults.
struct TrainConfig {
  static constexpr const char* kTool = "yolo-train";
  std::string weights = "yolov5s.pt", cfg, data = "data/coco128.yaml", hyp = "hyp.scratch-low.yaml";
  int epochs = 100, batch_size = 16, imgsz = 640;
  bool rect = false, nosave = false, noval = false, noautoanchor = false, noplots = false;
  std::string resume;                    // a last.safetensors; empty: a new run
  std::vector<std::string> resume_with;  // options that a resumed run takes from here: "device"
  std::string cache;                     // "", "ram"
  std::string device = "";               // RunDevice's: "", "auto", "cpu", "cuda:N", "N"
  bool multi_scale = false, single_cls = false;
  OptimizerKind optimizer = OptimizerKind::sgd;
  int workers = 8;
  std::filesystem::path project = "runs/train";
  std::string name = "exp";
  bool exist_ok = false, cos_lr = false;
  double label_smoothing = 0;
  int patience = 100;
  std::vector<std::string> freeze{"0"};  // see frost::freeze
  int save_period = -1;
  std::uint64_t seed = 0;
  // frost's own
  std::vector<std::string> unfreeze_at;  // "5:6": from epoch 5 on only the first 6 layers are frozen; see UnfreezeStage
  std::vector<std::string> lr_scale;     // "model.0-9:0.1"; see scale_learning_rates
  std::string cache_features;            // "", "ram", "disk": keeps what the frozen prefix makes of each image
  bool strict = false;                   // a corrupt image or label ends the run instead of being left out
  int nbs = 64;                          // nominal batch: an optimizer step follows each so many images
  FrozenBn frozen_bn = FrozenBn::running;
  std::string prune_schedule;                // FROM:TO:EPOCHS: gradual magnitude pruning; empty: none
  std::string precision = "auto";            // f32, bf16, f16; auto: bf16 on a GPU that has it, else f32
  bool cuda_graph = true;                    // capture steps and validation where the device can
  bool deterministic = false, tf32 = false;  // see CudaChoices
  bool recompute = true;                     // rematerialize activations in backward instead of keeping them
  bool dry_run = false;                      // say what a step costs and stop; nothing is trained or written
};

/// Every option once, in YOLOv5's order, frost's own after them: see models/run/option_file.h.
template <class Config, class F>
void each_option(Config& c, F&& f) {
  f("weights", c.weights), f("cfg", c.cfg), f("data", c.data), f("hyp", c.hyp), f("epochs", c.epochs),
      f("batch_size", c.batch_size);
  f("imgsz", c.imgsz), f("rect", c.rect), f("resume", c.resume), f("nosave", c.nosave), f("noval", c.noval);
  f("noautoanchor", c.noautoanchor), f("noplots", c.noplots), f("cache", c.cache), f("device", c.device),
      f("multi_scale", c.multi_scale);
  f("single_cls", c.single_cls), f("optimizer", c.optimizer), f("workers", c.workers), f("project", c.project),
      f("name", c.name);
  f("exist_ok", c.exist_ok), f("cos_lr", c.cos_lr), f("label_smoothing", c.label_smoothing), f("patience", c.patience);
  f("freeze", c.freeze), f("save_period", c.save_period), f("seed", c.seed), f("frozen_bn", c.frozen_bn),
      f("precision", c.precision);
  f("unfreeze_at", c.unfreeze_at), f("lr_scale", c.lr_scale), f("cache_features", c.cache_features);
  f("recompute", c.recompute), f("nbs", c.nbs), f("strict", c.strict), f("cuda_graph", c.cuda_graph);
  f("deterministic", c.deterministic), f("tf32", c.tf32);
  f("prune_schedule", c.prune_schedule);
}

/// Trains as train.py does and returns the run's folder (empty after a dry run). Throws Error: one line with the file and
/// the cause.
std::filesystem::path train(const TrainConfig& config, Observer& observer = silence());
/// The same for an existing model, on its device and from its weights, whatever the options name; it gets the data's
/// classes.
run::RunResult train(const TrainConfig& config, std::unique_ptr<DetectionModel> model, Observer& observer);

}  // namespace frost::yolo
