#include "models/yolo/training/hyp.h"
#include "models/yolo/training/trainer.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"

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
  frost::add_freeze(app, c, model, "7 7, 0 1 2, 10-23, backbone, model.24, 'model.*.bn.*'; '!24'", "YOLOv5");
  frost::add_unfreeze(app, c, model, 6, "model.0-9");
  app.add_option("--data", c.data, "dataset YAML")->capture_default_str()->group(data);
  app.add_option(
         "--hyp", c.hyp,
         "hyperparameters: a file or a built-in name (scratch-low, scratch-med, scratch-high, short, no-augmentation, VOC, "
         "Objects365)")
      ->capture_default_str()
      ->group(data);
  frost::add_image_size(app, c, data);
  app.add_flag("--rect", c.rect, "rectangular batches, no mosaic")->group(data);
  frost::add_place(app, "--cache", c.cache, {"ram"}, "keep resized images in memory: ram")->group(data);
  frost::add_place(app, "--cache-features", c.cache_features, {"ram", "disk"},
                   "keep what the frozen layers make of each image, in memory or in a file: ram, disk; without augmentation")
      ->group(data);
  app.add_flag("--single-cls", c.single_cls, "treat all classes as one")->group(data);
  app.add_flag("--multi-scale", c.multi_scale, "vary the image size by 0.5 to 1.5 from batch to batch")->group(data);
  app.add_flag("--strict", c.strict, "a corrupt image or label ends the run; otherwise it is left out, with a warning")
      ->group(data);
  app.add_flag("--noautoanchor", c.noautoanchor, "do not check the anchors against the data")->group(data);
  frost::add_workers(app, c, data);
  frost::add_epochs(app, c, schedule);
  frost::add_batch_size(app, c, schedule);
  app.add_option("--nbs", c.nbs, "nominal batch: smaller batches gather gradients until so many images were seen")
      ->transform(frost::whole_number(1))
      ->capture_default_str()
      ->group(schedule);
  frost::add_optimizer(app, c, schedule);
  frost::add_prune_schedule(app, c, schedule);
  app.add_flag("--cos-lr", c.cos_lr, "cosine learning-rate schedule")->group(schedule);
  frost::add_label_smoothing(app, c, schedule);
  app.add_option("--patience", c.patience, "stop after so many epochs without improvement; 0 = never")
      ->transform(frost::whole_number(0))
      ->capture_default_str()
      ->group(schedule);
  frost::add_seed(app, c, schedule);
  const auto find_run = frost::add_resume(app, c, schedule, [](const std::filesystem::path& run) {
    static_cast<void>(frost::yolo::load_hyp((run / "hyp.yaml").string()));
  });
  frost::add_dry_run(app, c, output);
  frost::add_run_folder(app, c, output);
  frost::add_nosave(app, c, output);
  app.add_flag("--noval", c.noval, "validate only after the last epoch")->group(output);
  frost::add_noplots(app, c, output);
  frost::add_save_period(app, c, output);
  frost::add_device(app, c, machine);
  frost::add_precision(app, c, machine);
  frost::add_cuda_choices(app, c, machine);
  frost::add_cuda_graph(app, c, machine, "training steps, and in validation the network, once and replay them");
  frost::add_recompute(app, c, machine);
  frost::parse_arguments(app, argc, argv);
  find_run();
  frost::ConsoleObserver observer;
  frost::yolo::train(c, observer);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("yolo-train", argc, argv, run); }
