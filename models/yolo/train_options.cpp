#include "models/yolo/train_options.h"

#include "models/run/option_file.h"

namespace frost::yolo {

/// Every option once: key and member, in YOLOv5's order. Printing, writing and reading all walk this list.
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

std::string train_options_line(const TrainConfig& config) { return run::options_line(config); }

void write_train_options(const std::filesystem::path& file, const TrainConfig& config,
                         const std::filesystem::path& run_folder) {
  run::write_options(file, config, run_folder);
}

TrainConfig read_train_options(const std::filesystem::path& file) { return run::read_options<TrainConfig>(file); }

}  // namespace frost::yolo
