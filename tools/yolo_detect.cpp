#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>
#include <map>

#include "engine/image/codec.h"
#include "engine/image/resize.h"
#include "engine/report/run_folder.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/families/load_model.h"
#include "models/families/predict.h"
#include "models/yolo/evaluation/plots.h"
#include "models/yolo/evaluation/results.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"
#include "tools/sources.h"

namespace {

using namespace frost;
namespace fs = std::filesystem;

/// The flags, in YOLOv5's order (docs/spec/tools.md section 1.1).
struct Config {
  std::string weights = "yolov5s.pt", source = "data/images";
  int imgsz = 640;
  float conf_thres = 0.25f;
  double iou_thres = 0.45;
  int max_det = 1000;
  std::string device;
  bool save_txt = false, save_conf = false, save_crop = false, nosave = false;
  std::vector<int> classes;
  bool agnostic_nms = false;
  fs::path project = "runs/detect";
  std::string name = "exp";
  bool exist_ok = false;
  int line_thickness = 3;
  bool hide_labels = false, hide_conf = false, half = false;
  std::string precision = "auto";
  bool cuda_graph = true, deterministic = false, tf32 = false;
};

const char* truth(bool value) { return value ? "True" : "False"; }

std::string options_line(const Config& c) {
  const std::string classes = c.classes.empty() ? "None" : fmt::format("[{}]", fmt::join(c.classes, ", "));
  return fmt::format(
      "weights=['{}'], source={}, imgsz=[{}, {}], conf_thres={}, iou_thres={}, max_det={}, device={}, save_txt={}, "
      "save_conf={}, save_crop={}, nosave={}, classes={}, agnostic_nms={}, project={}, name={}, exist_ok={}, "
      "line_thickness={}, hide_labels={}, hide_conf={}, half={}",
      c.weights, c.source, c.imgsz, c.imgsz, c.conf_thres, c.iou_thres, c.max_det, c.device, truth(c.save_txt),
      truth(c.save_conf), truth(c.save_crop), truth(c.nosave), classes, truth(c.agnostic_nms), c.project.string(), c.name,
      truth(c.exist_ok), c.line_thickness, truth(c.hide_labels), truth(c.hide_conf), truth(c.half));
}

/// "2 persons, 1 bus, " or "(no detections), ".
std::string counted(const std::vector<Detection>& found, const std::vector<std::string>& names) {
  std::map<int, int> count;
  for (const Detection& d : found) ++count[d.label];
  std::string text;
  for (const auto& [label, n] : count)
    text += fmt::format("{} {}{}, ", n, names.at(static_cast<std::size_t>(label)), n > 1 ? "s" : "");
  return text.empty() ? "(no detections), " : text;
}

/// A detection's part of the image and a little around it, crops/CLASS/NAME.jpg, NAME2.jpg, ...
void write_crop(const fs::path& folder, const std::string& stem, const Image& image, const Detection& d) {
  const yolo::BoxXywh b = yolo::xywh_of(yolo::box_of(d));
  const yolo::BoxXyxy wide = yolo::clipped(yolo::xyxy_of({b.x, b.y, b.w * 1.02f + 10, b.h * 1.02f + 10}),
                                           static_cast<float>(image.width), static_cast<float>(image.height));
  const int x = static_cast<int>(wide.x1), y = static_cast<int>(wide.y1);
  fs::path file = folder / (stem + ".jpg");
  for (int k = 2; fs::exists(file); ++k) file = folder / (stem + std::to_string(k) + ".jpg");
  write_jpeg(file, crop(image, y, x, static_cast<int>(wide.y2) - y, static_cast<int>(wide.x2) - x), 95, true);
}

void detect(const Config& c) {
  const RunDevice run(c.device, c.half ? "half" : c.precision, {c.deterministic, c.tf32});
  fmt::print("{}{}\n{}\n\n", bold_blue("detect: "), options_line(c), run.line);
  ConsoleObserver observer;
  const std::unique_ptr<Model> model = load_model(*run.device, c.weights, observer);
  FROST_CHECK(model->preprocessing().framing == Preprocessing::Framing::letterbox, c.weights, ": ", model->architecture(),
              " is a classifier; classify-predict looks at pictures with it");
  fmt::print("{}\n", model->summary(c.imgsz));
  for (const int label : c.classes)
    FROST_CHECK(label < model->classes(), "--classes ", label, ": ", c.weights, " has classes 0 to ", model->classes() - 1);
  Predictor predict(*model, {.imgsz = c.imgsz,
                             .conf_thres = c.conf_thres,
                             .iou_thres = c.iou_thres,
                             .max_det = c.max_det,
                             .classes = c.classes,
                             .agnostic_nms = c.agnostic_nms,
                             .compute = run.compute,
                             .cuda_graph = c.cuda_graph});
  if (predict.imgsz() != c.imgsz)
    fmt::print("WARNING: --img-size {} must be multiple of max stride {}, updating to {}\n", c.imgsz, model->stride(),
               predict.imgsz());
  images_of(c.source);  // reports errors before a folder is made
  const fs::path folder = make_run_folder(c.project, c.name, c.exist_ok), labels = folder / "labels";
  if (c.save_txt) make_folders(labels);

  std::array<double, 3> ms{};
  const std::size_t seen = for_each_picture(c.source, [&](const std::string& begin, const fs::path& file, Image image) {
    std::vector<Detection> found = predict(image);
    for (Detection& d : found)  // what is drawn, written and cut out are whole pixels
      for (float* side : {&d.x1, &d.y1, &d.x2, &d.y2}) *side = std::nearbyint(*side);
    const std::string stem = file.stem().string();
    const std::vector<Detection> least_first(found.rbegin(), found.rend());
    if (c.save_txt) yolo::append_label_file(labels / (stem + ".txt"), least_first, image.width, image.height, c.save_conf);
    if (c.save_crop)
      for (const Detection& d : least_first)
        write_crop(folder / "crops" / model->names.at(static_cast<std::size_t>(d.label)), stem, image, d);
    if (!c.nosave) {
      std::vector<yolo::DrawnBox> boxes;
      for (const Detection& d : least_first) boxes.push_back({yolo::box_of(d), d.label, d.confidence});
      yolo::draw_boxes(image, boxes, model->names,
                       {.line = c.line_thickness, .decimals = 2, .labels = !c.hide_labels, .confidences = !c.hide_conf});
      write_image(folder / file.filename(), image);
    }
    const Predictor::Pass& pass = predict.last();
    ms[0] += pass.pre_ms, ms[1] += pass.inference_ms, ms[2] += pass.post_ms;
    fmt::print("{}{}x{} {}{:.1f}ms\n", begin, pass.height, pass.width, counted(found, model->names), pass.inference_ms);
  });
  const auto images = static_cast<double>(seen);
  fmt::print("{}\n", yolo::speed_line(ms[0] / images, ms[1] / images, ms[2] / images, 1, predict.imgsz()));
  if (!c.nosave || c.save_txt || c.save_crop) fmt::print("Results saved to {}\n", bold(folder.string()));
  if (c.save_txt) {
    const auto files = std::distance(fs::directory_iterator(labels), fs::directory_iterator{});
    fmt::print("{} labels saved to {}\n", files, labels.string());
  }
}

int run(CLI::App& app, int argc, char** argv) {
  Config c;
  app.description(
      "Find objects on pictures with a YOLOv5 detector.\n\n"
      "  yolo-detect --weights yolov5n.pt --source photos\n"
      "  yolo-detect --weights runs/train/exp/weights/best.safetensors --source cells.jpg --save-txt --conf 0.4");
  app.get_formatter()->column_width(34);
  const std::string what = "What", how = "How", output = "Output", machine = "Machine";
  app.add_option("--weights", c.weights, "a YOLOv5 .pt, a .safetensors, or a release name such as yolov5n.pt")
      ->capture_default_str()
      ->group(what);
  app.add_option("--source", c.source, "a picture or a folder of pictures")->capture_default_str()->group(what);
  add_image_size(app, c, how);
  add_thresholds(app, c, how);
  app.add_option("--classes", c.classes, "only these classes: 0 2 3")->transform(whole_number(0))->group(how);
  app.add_flag("--agnostic-nms", c.agnostic_nms, "boxes of different classes suppress each other too")->group(how);
  app.add_flag("--save-txt", c.save_txt, "detections as label files")->group(output);
  app.add_flag("--save-conf", c.save_conf, "... with confidences")->group(output);
  app.add_flag("--save-crop", c.save_crop, "each detection cut out, crops/CLASS/NAME.jpg")->group(output);
  app.add_flag("--nosave", c.nosave, "do not write the pictures with their boxes")->group(output);
  app.add_option("--line-thickness", c.line_thickness, "of the boxes, pixels")
      ->transform(whole_number(1, 100))
      ->capture_default_str()
      ->group(output);
  app.add_flag("--hide-labels", c.hide_labels, "boxes without names")->group(output);
  app.add_flag("--hide-conf", c.hide_conf, "... without confidences")->group(output);
  add_run_folder(app, c, output);
  add_evaluation(app, c, machine);
  parse_arguments(app, argc, argv);
  detect(c);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_tool("yolo-detect", argc, argv, ::run); }
