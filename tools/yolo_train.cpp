#include <fmt/format.h>

#include "engine/tensor/run_device.h"
#include "engine/training/loop.h"
#include "models/yolo/trainer.h"
#include "tools/main_guard.h"

namespace {

int run(CLI::App& app, int argc, char** argv) {
  frost::yolo::TrainConfig c;
  app.description(
      "Train a YOLOv5 detector.\n\n"
      "  yolo-train --weights yolov5n.pt --data my.yaml --imgsz 320 --epochs 30             fine-tune\n"
      "  yolo-train --weights yolov5n.pt --data my.yaml --freeze 10                         ... with the backbone frozen\n"
      "  yolo-train --weights '' --cfg yolov5n.yaml --data my.yaml                          from scratch\n"
      "  yolo-train --resume runs/train/exp/weights/last.safetensors                        go on after an interruption");
  app.get_formatter()->column_width(34);
  const std::string model = "Model", data = "Data", schedule = "Training", output = "Output", machine = "Machine";
  app.add_option("--weights", c.weights, "initial weights: a YOLOv5 .pt, a .safetensors, a release name; '' = from scratch")
      ->capture_default_str()
      ->group(model);
  app.add_option("--cfg", c.cfg, "model YAML: a file or a built-in name such as yolov5n.yaml")->group(model);
  app.add_option("--freeze", c.freeze,
                 "what to freeze: N = the first N layers; several terms = exactly these: 7 7, 0 1 2, 10-23, backbone, "
                 "model.24, 'model.*.bn.*'; '!24' = all but these")
      ->capture_default_str()
      ->group(model);
  std::string frozen_bn = "running";
  app.add_option("--frozen-bn", frozen_bn, "a frozen BatchNorm uses its running statistics, or batch ones as YOLOv5 does")
      ->check(CLI::IsMember({"running", "batch"}))
      ->capture_default_str()
      ->group(model);
  app.add_option("--unfreeze-at", c.unfreeze_at,
                 "EPOCH:LAYERS, several: 5:6 8:0 freezes only the first 6 layers from epoch 5 on, and none from epoch 8 on")
      ->group(model);
  app.add_option("--lr-scale", c.lr_scale, "WHAT:SCALE, several: model.0-9:0.1 trains these layers at a tenth of the rate")
      ->group(model);
  app.add_option("--data", c.data, "dataset YAML")->capture_default_str()->group(data);
  app.add_option("--hyp", c.hyp,
                 "hyperparameters: a file or a built-in name (scratch-low, scratch-med, scratch-high, no-augmentation, VOC, "
                 "Objects365)")
      ->capture_default_str()
      ->group(data);
  app.add_option("--imgsz,--img,--img-size", c.imgsz, "image size, pixels")
      ->check(CLI::Range(32, 8192))
      ->capture_default_str()
      ->group(data);
  app.add_flag("--rect", c.rect, "rectangular batches, no mosaic")->group(data);
  app.add_option("--cache", c.cache, "keep resized images in memory: ram")
      ->expected(0, 1)
      ->default_str("")
      ->check(CLI::IsMember({"ram"}))
      ->group(data);
  app.add_option("--cache-features", c.cache_features,
                 "keep what the frozen layers make of each image, in memory or in a file: ram, disk; without augmentation")
      ->expected(0, 1)
      ->default_str("")
      ->check(CLI::IsMember({"ram", "disk"}))
      ->group(data);
  app.add_flag("--single-cls", c.single_cls, "treat all classes as one")->group(data);
  app.add_flag("--multi-scale", c.multi_scale, "vary the image size by 0.5 to 1.5 from batch to batch")->group(data);
  app.add_flag("--strict", c.strict, "a damaged image or label ends the run; otherwise it is left out, with a warning")
      ->group(data);
  app.add_flag("--noautoanchor", c.noautoanchor, "do not check the anchors against the data")->group(data);
  app.add_option("--workers", c.workers, "threads that read images")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(data);
  app.add_option("--epochs", c.epochs, "epochs in all")->check(CLI::PositiveNumber)->capture_default_str()->group(schedule);
  app.add_option("--batch-size,--batch", c.batch_size, "images in a batch")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--nbs", c.nbs, "nominal batch: smaller batches gather gradients until so many images were seen")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(schedule);
  std::string optimizer = "SGD";
  app.add_option("--optimizer", optimizer, "SGD, Adam or AdamW")
      ->check(CLI::IsMember({"SGD", "Adam", "AdamW"}))
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--prune-schedule", c.prune_schedule,
                 "prune while training, FROM:TO:EPOCHS such as 0.0:0.6:10: sparsity rises along a cubic curve. Masked "
                 "weights (also those of a pruned --weights file) stay zero; that saves no time")
      ->group(schedule);
  app.add_flag("--cos-lr", c.cos_lr, "cosine learning-rate schedule")->group(schedule);
  app.add_option("--label-smoothing", c.label_smoothing, "label smoothing epsilon")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--patience", c.patience, "stop after so many epochs without improvement; 0 = never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--seed", c.seed, "seed of weights, order and augmentation")->capture_default_str()->group(schedule);
  std::string resume;
  CLI::Option* resuming =
      app.add_option("--resume", resume, "go on with an interrupted run: its last.safetensors, or the newest one")
          ->expected(0, 1)
          ->group(schedule);
  app.add_flag("--dry-run", c.dry_run, "say what memory and arithmetic training will take, then stop")->group(output);
  app.add_option("--project", c.project, "folder of runs")->capture_default_str()->group(output);
  app.add_option("--name", c.name, "name of the run's folder")->capture_default_str()->group(output);
  app.add_flag("--exist-ok", c.exist_ok, "use that folder even if it exists")->group(output);
  app.add_flag("--nosave", c.nosave, "write a checkpoint only after the last epoch")->group(output);
  app.add_flag("--noval", c.noval, "validate only after the last epoch")->group(output);
  app.add_flag("--noplots", c.noplots, "write no pictures")->group(output);
  app.add_option("--save-period", c.save_period, "an extra checkpoint every so many epochs")
      ->capture_default_str()
      ->group(output);
  app.add_option("--device", c.device, frost::kDeviceHelp)->group(machine);
  app.add_option("--precision", c.precision,
                 "of activations and convolutions: f32, bf16, f16 (GPU only); auto: bf16 on a GPU, f32 on a CPU")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str()
      ->group(machine);
  app.add_flag("--deterministic", c.deterministic, "the same bits in every run on a GPU; slower (a CPU always gives them)")
      ->group(machine);
  app.add_flag("--tf32", c.tf32, "TF32 tensor cores for f32 convolutions (CUDA)")->group(machine);
  app.add_flag("--cuda-graph,!--no-cuda-graph", c.cuda_graph, "capture training steps once and replay them (CUDA)")
      ->group(machine);
  app.add_flag("--recompute,!--no-recompute", c.recompute,
               "make activations again in backward instead of keeping them (less memory)")
      ->group(machine);
  app.parse(argc, argv);

  c.frozen_bn = frozen_bn == "batch" ? frost::FrozenBn::batch : frost::FrozenBn::running;
  c.optimizer = frost::parse_optimizer(optimizer);
  if (app.count("--cache") && c.cache.empty()) c.cache = "ram";
  if (app.count("--cache-features") && c.cache_features.empty()) c.cache_features = "ram";
  if (resuming->count())
    c.resume = resume.empty() || resume == "true" ? frost::newest_unfinished(c.project).string() : resume;
  frost::yolo::train(c);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("yolo-train", argc, argv, run); }
