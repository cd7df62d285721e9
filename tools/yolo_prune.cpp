#include "models/classify/val_command.h"
#include "models/families/load_model.h"
#include "models/graph/detection_model.h"
#include "models/slim/prune_command.h"
#include "models/yolo/evaluation/val_command.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"

namespace {

struct Options : frost::slim::PruneConfig {
  std::string weights;       // a .pt, a .pth, a .safetensors, a release name
  std::string data, device;  // data: validates before and after
  int imgsz = 0;             // of that; 0: what the family is usually validated at
  int batch_size = 32;
};

template <class ValConfig>
ValConfig validation(const Options& c, const std::filesystem::path& weights) {
  ValConfig val;
  val.data = c.data, val.weights = weights.string(), val.device = c.device, val.noplots = true;
  val.batch_size = c.batch_size;
  if (c.imgsz > 0) val.imgsz = c.imgsz;
  return val;
}

int run(CLI::App& app, int argc, char** argv) {
  Options c;
  app.description(
      "Prune a YOLOv5 detector or a classifier: mask weights, or remove whole filters. Train the result on with yolo-train\n"
      "or classify-train to recover.\n\n"
      "  yolo-prune --weights yolov5n.pt --amount 0.3 --save pruned.safetensors\n"
      "  yolo-prune --weights yolov5n.pt --method filters --amount 0.4 --multiple 16 --save smaller.safetensors\n"
      "  yolo-train --weights pruned.safetensors --data my.yaml --epochs 10 --nbs 16 --cos-lr\n"
      "  yolo-prune --weights resnet18.pth --amount 0.5 --save half.safetensors\n"
      "  classify-train --weights half.safetensors --data flowers --lr0 0.0001\n\n"
      "l1, global and nm set weights to zero and remember which: the file becomes smaller and training keeps the zeros,\n"
      "but nothing becomes faster, since zeros are multiplied like other numbers (nm would be on NVIDIA's sparse tensor\n"
      "cores, which frost does not use). filters removes whole filters: a smaller dense model, which is faster. It needs\n"
      "training to recover.");
  app.get_formatter()->column_width(34);
  const std::string what = "What", output = "Output", check = "Check";
  app.add_option("--weights", c.weights,
                 "a YOLOv5 .pt, torchvision's .pth, a .safetensors, or a release name such as yolov5n.pt; the file says "
                 "whether it is a detector or a classifier")
      ->required()
      ->group(what);
  app.add_option("--method", c.method,
                 "l1: each convolution's smallest weights, as YOLOv5; global: one threshold for all convolutions; nm: N of "
                 "each M neighbouring input channels stay; filters: whole filters go")
      ->check(CLI::IsMember({"l1", "global", "filters", "nm"}))
      ->capture_default_str()
      ->group(what);
  app.add_option("--amount", c.amount, "share to remove: of the weights (l1, global), of the FLOPs (filters)")
      ->check(frost::number(0, 1))
      ->capture_default_str()
      ->group(what);
  app.add_option("--importance", c.importance,
                 "of filters, what a channel is worth: l1 = its filter's mean |w|, bn = its batch norm's |gamma|")
      ->check(CLI::IsMember({"l1", "bn"}))
      ->capture_default_str()
      ->group(what);
  app.add_option("--multiple", c.multiple,
                 "of filters, what the channels that stay are rounded up to: 8 for tensor cores, 16 for a CPU with AVX-512")
      ->transform(frost::whole_number(1, 64))
      ->capture_default_str()
      ->group(what);
  app.add_option("--pattern", c.pattern, "of nm, N:M")->capture_default_str()->group(what);
  app.add_option("--save", c.save, "the .safetensors to write")->required()->group(output);
  app.add_flag("--dense", c.dense, "write a plain file that any reader understands: larger, and without the masks")
      ->group(output);
  CLI::Option* data =
      app.add_option("--data", c.data, "dataset YAML, or a classifier's folder: validate before and after")->group(check);
  frost::add_image_size(app, c, check, "image size of that, pixels; default: 640, for a classifier 224", false)->needs(data);
  frost::add_batch_size(app, c, check, "images in a batch of that")->needs(data);
  frost::add_device(app, c, check);
  frost::parse_arguments(app, argc, argv);
  const bool filters = c.method == "filters", nm = c.method == "nm";
  for (const auto& [flag, used] : {std::pair{"--amount", !nm}, std::pair{"--pattern", nm},
                                   std::pair{"--importance", filters}, std::pair{"--multiple", filters}})
    if (!used && app.count(flag)) throw CLI::ValidationError(flag, "--method " + c.method + " does not use it");
  const frost::RunDevice device(c.device, "f32");
  frost::ConsoleObserver observer;
  frost::StoredModel stored = frost::read_model(*device.device, c.weights, observer);
  frost::slim::prune(c, device, stored, observer);
  if (c.data.empty()) return 0;
  const bool detector = dynamic_cast<frost::DetectionModel*>(stored.model.get()) != nullptr;
  for (const std::filesystem::path& weights : {stored.file, c.save}) {
    if (detector)
      frost::yolo::run_validation(validation<frost::yolo::ValConfig>(c, weights), observer);
    else
      frost::classify::run_validation(validation<frost::classify::ValConfig>(c, weights), observer);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("yolo-prune", argc, argv, run); }
