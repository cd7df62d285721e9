#include "engine/tensor/run_device.h"
#include "models/yolo/val_run.h"
#include "tools/main_guard.h"

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
  app.add_option("--imgsz,--img,--img-size", c.imgsz, "image size, pixels")
      ->check(CLI::Range(32, 8192))
      ->capture_default_str()
      ->group(how);
  app.add_option("--batch-size,--batch", c.batch_size, "images in a batch")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(how);
  app.add_option("--conf-thres", c.conf_thres, "confidence threshold")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(how);
  app.add_option("--iou-thres", c.iou_thres, "IoU threshold of non-maximum suppression")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(how);
  app.add_option("--max-det", c.max_det, "detections kept for each image")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(how);
  app.add_flag("--strict", c.strict, "a damaged image or label ends the run; otherwise it is left out, with a warning")
      ->group(what);
  app.add_option("--prune", c.prune,
                 "zero this share of each convolution's smallest weights after fusion, as YOLOv5's tutorial; shows the "
                 "metrics before and after. Saves no time: zeros are multiplied like other numbers")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(how);
  app.add_flag("--single-cls", c.single_cls, "treat all classes as one")->group(how);
  app.add_flag("--verbose", c.verbose, "a row for each class")->group(output);
  app.add_flag("--save-txt", c.save_txt, "detections as label files")->group(output);
  app.add_flag("--save-conf", c.save_conf, "... with confidences")->group(output);
  app.add_flag("--save-json", c.save_json, "detections in COCO's JSON form")->group(output);
  app.add_option("--project", c.project, "folder of runs")->capture_default_str()->group(output);
  app.add_option("--name", c.name, "name of the run's folder")->capture_default_str()->group(output);
  app.add_flag("--exist-ok", c.exist_ok, "use that folder even if it exists")->group(output);
  app.add_flag("--noplots", c.noplots, "write no pictures")->group(output);
  app.add_option("--workers", c.workers, "threads that read images")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(machine);
  app.add_option("--device", c.device, frost::kDeviceHelp)->group(machine);
  app.add_flag("--half", c.half, "16-bit activations: f16 on a GPU, bf16 on a CPU")->group(machine);
  app.add_flag("--deterministic", c.deterministic, "the same bits in every run on a GPU; slower (a CPU always gives them)")
      ->group(machine);
  app.add_flag("--tf32", c.tf32, "TF32 tensor cores for f32 convolutions (CUDA)")->group(machine);
  app.add_flag("--cuda-graph,!--no-cuda-graph", c.cuda_graph, "capture the network once for each shape (CUDA)")
      ->group(machine);
  app.add_option("--precision", c.precision,
                 "of activations and convolutions: f32, bf16, f16 (GPU only); auto: bf16 on a GPU, f32 on a CPU")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str()
      ->group(machine);
  app.parse(argc, argv);
  frost::yolo::run_validation(c);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("yolo-val", argc, argv, run); }
