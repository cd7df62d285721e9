#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/trace/trace.h"
#include "models/classify/classifier.h"
#include "models/families/rehearsal.h"
#include "models/graph/detection_model.h"
#include "models/yolo/training/cached_prefix.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"

namespace {

int run(CLI::App& app, int argc, char** argv) {
  frost::slim::ExplainConfig c;
  app.description(
      "Say what a training step of a YOLOv5 or of a classifier costs, before it runs: bytes by module and by role,\n"
      "arithmetic, time; and what freezing saves. Bytes are exact: the real code runs on a device that only keeps "
      "accounts.\n\n"
      "  yolo-explain --cfg yolov5s.yaml --freeze 10 --batch-size 16 --imgsz 640\n"
      "  yolo-explain --weights yolov5n.pt --freeze 10 --imgsz 320 --measure                beside a real step\n"
      "  yolo-explain --weights yolov5n.pt --html explain.html                              a page with a slider\n"
      "  yolo-explain --model resnet18 --classes 10 --freeze '!fc' --optimizer Adam         a classifier's new head alone");
  app.get_formatter()->column_width(34);
  const std::string model = "Model", step = "Step", output = "Output", machine = "Machine";
  CLI::Option* weights =
      app.add_option("--weights", c.weights,
                     "a YOLOv5 .pt, torchvision's .pth, a .safetensors, or a release name such as yolov5n.pt; the file says "
                     "whether it is a detector or a classifier")
          ->group(model);
  CLI::Option* cfg = app.add_option("--cfg", c.cfg, "model YAML: a file or a built-in name such as yolov5n.yaml")
                         ->excludes(weights)
                         ->group(model);
  app.add_option("--model", c.model, fmt::format("a classifier: {}", fmt::join(frost::classify::classifier_names(), ", ")))
      ->excludes(weights)
      ->excludes(cfg)
      ->group(model);
  app.add_option("--classes", c.classes, "of a classifier; default: as its weights have them, 1000 for --model")
      ->transform(frost::whole_number(1))
      ->excludes(cfg)
      ->group(model);
  frost::add_freeze(app, c, model, "7 7, 0 1 2, 10-23, backbone, model.24, 'model.*.bn.*', layer1; '!24', '!fc'", "YOLOv5");
  app.add_flag("--cache-features", c.cache_features,
               "of yolo-train: a step of an epoch after the first, when the frozen layers' output comes from the cache")
      ->group(model);
  frost::add_batch_size(app, c, step);
  frost::add_image_size(app, c, step, "image size, pixels; default: 640, for a classifier 224", false);
  frost::add_optimizer(app, c, step);
  frost::add_recompute(app, c, step);
  app.add_flag("--measure", c.measure,
               "predict the time too, and run real steps: their accounts and times beside the prediction")
      ->group(output);
  app.add_flag("--parts", c.parts, "a line for each leaf below each module")->group(output);
  app.add_option("--json", c.json, "write everything to this file (docs/explain.md)")->group(output);
  app.add_option("--html", c.html, "write a self-contained page with a slider for --freeze N")->group(output);
  frost::add_precision(app, c, machine);
  frost::add_device(app, c, machine);
  frost::parse_arguments(app, argc, argv);
  frost::ConsoleObserver observer;
  const auto cpu = frost::make_cpu_backend();
  frost::Device nowhere(frost::make_meta_backend(*cpu, {}));
  const auto network = frost::model_to_explain(nowhere, c, observer);
  const int imgsz = frost::training_size(*network, c.imgsz, observer);
  if (auto* detector = dynamic_cast<frost::DetectionModel*>(network.get()); detector && c.cache_features) {
    detector->freeze(c.freeze);
    frost::yolo::check_cacheable(*detector, c.frozen_bn);
  }
  const frost::RunDevice run(c.device, c.precision);
  const frost::NoiseOptions noise{c.batch_size, imgsz,
                                  c.cache_features ? frost::FeatureCache::filled : frost::FeatureCache::off};
  const frost::StepPlan plan{.compute = run.compute, .frozen_bn = c.frozen_bn, .recompute = c.recompute};
  frost::slim::explain(c, *network, imgsz, frost::noise_task(*network, plan, noise), run, observer);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("yolo-explain", argc, argv, run); }
