#include "models/yolo/evaluation/val_command.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"

namespace {

int run(CLI::App& app, int argc, char** argv) {
  frost::yolo::ValConfig c;
  app.description(
      "Validate a YOLOv5 detector: precision, recall, mAP50 and mAP50-95.\n\n"
      "  yolo-val --weights yolov5n.pt --data coco128.yaml --imgsz 640\n"
      "  yolo-val --weights runs/train/exp/weights/best.safetensors --data my.yaml --verbose --save-txt");
  app.get_formatter()->column_width(34);
  const std::string what = "What", how = "How", output = "Output", machine = "Machine";
  app.add_option("--data", c.data, "dataset YAML")->capture_default_str()->group(what);
  app.add_option("--weights", c.weights, "a YOLOv5 .pt, a .safetensors, or a release name such as yolov5n.pt")
      ->capture_default_str()
      ->group(what);
  app.add_option("--task", c.task, "which images: train, val, test; speed = val at conf 0.25 / IoU 0.45, timed")
      ->check(CLI::IsMember({"train", "val", "test", "speed"}))
      ->capture_default_str()
      ->group(what);
  frost::add_image_size(app, c, how);
  frost::add_batch_size(app, c, how);
  frost::add_thresholds(app, c, how);
  app.add_flag("--strict", c.strict, "a corrupt image or label ends the run; otherwise it is left out, with a warning")
      ->group(what);
  app.add_option("--prune", c.prune,
                 "zero this share of each convolution's smallest weights after fusion, as YOLOv5's tutorial; shows the "
                 "metrics before and after. Saves no time: zeros are multiplied like other numbers")
      ->check(frost::number(0, 1))
      ->capture_default_str()
      ->group(how);
  app.add_flag("--single-cls", c.single_cls, "treat all classes as one")->group(how);
  app.add_flag("--verbose", c.verbose, "a row for each class")->group(output);
  app.add_flag("--save-txt", c.save_txt, "detections as label files")->group(output);
  app.add_flag("--save-conf", c.save_conf, "... with confidences")->group(output);
  app.add_flag("--save-json", c.save_json, "detections in COCO's JSON form")->group(output);
  frost::add_run_folder(app, c, output);
  frost::add_noplots(app, c, output);
  frost::add_workers(app, c, machine);
  frost::add_evaluation(app, c, machine);
  frost::parse_arguments(app, argc, argv);
  frost::ConsoleObserver observer;
  frost::yolo::run_validation(c, observer);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("yolo-val", argc, argv, run); }
