#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/autograd/ops.h"
#include "engine/optim/optimizer.h"
#include "engine/report/observer.h"

namespace frost::run {
struct RunResult;
}

namespace frost::classify {

class Classifier;

/// The values of classify-train's flags (docs/spec/classify.md section 1.1), under YOLOv5's names and with its defaults.
struct TrainConfig {
  static constexpr const char* kTool = "classify-train";
  std::string model = "resnet18";  // an architecture, or a file of weights
  std::string weights;             // "": fresh ones
  std::string data;
  int epochs = 10, batch_size = 64, imgsz = 224;
  bool nosave = false;
  std::string cache;  // "", "ram"
  std::string device;
  int workers = 8;
  std::filesystem::path project = "runs/train-cls";
  std::string name = "exp";
  bool exist_ok = false, pretrained = true;
  OptimizerKind optimizer = OptimizerKind::adam;
  double lr0 = 0.001, decay = 5e-5, label_smoothing = 0.1;
  int cutoff = 10;
  double dropout = -1;  // below 0: as the architecture has it
  bool verbose = false;
  std::uint64_t seed = 0;
  // frost's own
  std::vector<std::string> freeze{"0"};  // see frost::freeze
  std::vector<std::string> unfreeze_at;  // "5:3": from epoch 5 on only the first 3 layers are frozen; see UnfreezeStage
  std::vector<std::string> lr_scale;     // "layer1:0.1"; see scale_learning_rates
  std::string prune_schedule;            // FROM:TO:EPOCHS: gradual magnitude pruning; empty: none
  bool feature_extract = false;          // everything frozen but a new head
  FrozenBn frozen_bn = FrozenBn::running;
  bool noaugment = false;  // training images as in validation
  bool strict = false;     // a corrupt picture ends the run instead of being left out
  bool noplots = false;
  std::string precision = "auto";            // f32, bf16, f16; auto: bf16 on a GPU that has it, else f32
  bool cuda_graph = true;                    // capture steps and validation where the device can
  bool deterministic = false, tf32 = false;  // see CudaChoices
  bool recompute = true;                     // rematerialize activations in backward instead of keeping them
  std::string resume;                        // a last.safetensors; empty: a new run
  std::vector<std::string> resume_with;      // options that a resumed run takes from here: "device"
  int save_period = -1;                      // an extra checkpoint every so many epochs
  bool dry_run = false;                      // say what a step costs and stop; nothing is trained or written
};

/// Every option once, in YOLOv5's order: see models/run/option_file.h.
template <class Config, class F>
void each_option(Config& c, F&& f) {
  f("model", c.model), f("weights", c.weights), f("data", c.data), f("epochs", c.epochs), f("batch_size", c.batch_size);
  f("imgsz", c.imgsz), f("nosave", c.nosave), f("cache", c.cache), f("device", c.device), f("workers", c.workers);
  f("project", c.project), f("name", c.name), f("exist_ok", c.exist_ok), f("pretrained", c.pretrained);
  f("optimizer", c.optimizer), f("lr0", c.lr0), f("decay", c.decay), f("label_smoothing", c.label_smoothing);
  f("cutoff", c.cutoff), f("dropout", c.dropout), f("verbose", c.verbose), f("seed", c.seed), f("freeze", c.freeze);
  f("feature_extract", c.feature_extract), f("frozen_bn", c.frozen_bn), f("noaugment", c.noaugment);
  f("noplots", c.noplots), f("precision", c.precision), f("recompute", c.recompute), f("resume", c.resume);
  f("unfreeze_at", c.unfreeze_at), f("lr_scale", c.lr_scale), f("prune_schedule", c.prune_schedule);
  f("save_period", c.save_period), f("strict", c.strict), f("cuda_graph", c.cuda_graph), f("deterministic", c.deterministic),
      f("tf32", c.tf32);
}

/// Trains as classify/train.py does and returns the run's folder (empty after a dry run). Throws Error: one line with the
/// file and the cause.
std::filesystem::path train(const TrainConfig& config, Observer& observer = silence());
/// The same for an existing model, on its device and from its weights, whatever the options name; it gets the data's
/// classes.
run::RunResult train(const TrainConfig& config, std::unique_ptr<Classifier> model, Observer& observer);

}  // namespace frost::classify
