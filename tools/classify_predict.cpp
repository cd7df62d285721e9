#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <fstream>

#include "engine/image/codec.h"
#include "engine/image/draw.h"
#include "engine/report/run_folder.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/classify/weights.h"
#include "models/families/predict.h"
#include "models/zoo/weights.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"
#include "tools/sources.h"

namespace {

using namespace frost;
namespace fs = std::filesystem;

/// The flags (docs/spec/classify.md section 3).
struct Config {
  std::string weights, source = "data/images";
  int imgsz = 224;
  std::string device;
  bool save_txt = false, nosave = false;
  fs::path project = "runs/predict-cls";
  std::string name = "exp";
  bool exist_ok = false, half = false;
  std::string precision = "auto";
  bool cuda_graph = true, deterministic = false, tf32 = false;
};

/// Lines in the upper left corner, each with a shadow, for bright grounds.
void draw_lines(Image& image, const std::vector<std::string>& lines) {
  const int scale = std::max(1, std::min(image.height, image.width) / 240), step = text_height(scale) + 3 * scale;
  for (int row = 0; row < static_cast<int>(lines.size()); ++row)
    for (const auto& [shift, colour] : {std::pair{scale, Colour{}}, {0, Colour{255, 255, 255}}})
      draw_text(image, 8 * scale + shift, 8 * scale + row * step + shift, lines[static_cast<std::size_t>(row)], colour,
                scale);
}

void look(const Config& c) {
  FROST_CHECK(!c.weights.empty(), "--weights is needed: a file that classify-train wrote, or a .pth");
  const RunDevice run(c.device, c.half ? "half" : c.precision, {c.deterministic, c.tf32});
  fmt::print("{}weights={}, source={}, imgsz={}, save_txt={}, nosave={}, project={}, name={}\n{}\n\n",
             bold_blue("classify/predict: "), c.weights, c.source, c.imgsz, c.save_txt, c.nosave, c.project.string(), c.name,
             run.line);
  ConsoleObserver observer;
  const std::unique_ptr<classify::Classifier> model =
      classify::load_classifier(*run.device, find_weights(c.weights, observer));
  const int imgsz = classify::Classifier::whole_strides(c.imgsz, observer);
  Predictor predict(*model, {.imgsz = imgsz, .max_det = 5, .compute = run.compute, .cuda_graph = c.cuda_graph});
  images_of(c.source);  // reports errors before a folder is made
  const fs::path folder = make_run_folder(c.project, c.name, c.exist_ok);
  if (c.save_txt) make_folders(folder / "labels");

  std::array<double, 3> ms{};
  const std::size_t seen = for_each_picture(c.source, [&](const std::string& begin, const fs::path& file, Image image) {
    std::vector<std::string> said, lines;
    for (const Detection& d : predict(image)) {
      const std::string& name = model->names.at(static_cast<std::size_t>(d.label));
      said.push_back(fmt::format("{} {:.2f}", name, d.confidence));
      lines.push_back(fmt::format("{:.2f} {}", d.confidence, name));
    }
    if (c.save_txt) {
      const fs::path labels = folder / "labels" / (file.stem().string() + ".txt");
      if (fs::exists(labels))
        fmt::print("WARNING: {} is there already: {} adds its lines\n", labels.string(), file.string());
      std::ofstream(labels, std::ios::app) << fmt::format("{}\n", fmt::join(lines, "\n"));
    }
    if (!c.nosave) {
      draw_lines(image, lines);
      write_image(folder / file.filename(), image);
    }
    const Predictor::Pass& pass = predict.last();
    ms[0] += pass.pre_ms, ms[1] += pass.inference_ms, ms[2] += pass.post_ms;
    fmt::print("{}{}x{} {}, {:.1f}ms\n", begin, imgsz, imgsz, fmt::join(said, ", "), pass.inference_ms);
  });
  const auto images = static_cast<double>(seen);
  fmt::print("Speed: {:.1f}ms pre-process, {:.1f}ms inference, {:.1f}ms post-process per image at shape (1, 3, {}, {})\n",
             ms[0] / images, ms[1] / images, ms[2] / images, imgsz, imgsz);
  if (!c.nosave || c.save_txt) fmt::print("Results saved to {}\n", bold(folder.string()));
  if (c.save_txt) fmt::print("{} labels saved to {}\n", seen, (folder / "labels").string());
}

int run(CLI::App& app, int argc, char** argv) {
  Config c;
  app.description(
      "Say what is on pictures: the five likeliest classes of each.\n\n"
      "  classify-predict --weights runs/train-cls/exp/weights/best.safetensors --source photos");
  app.get_formatter()->column_width(34);
  const std::string what = "What", output = "Output", machine = "Machine";
  app.add_option("--weights", c.weights, "a .safetensors of classify-train, torchvision's .pth, a YOLOv5 -cls.pt")
      ->required()
      ->group(what);
  app.add_option("--source", c.source, "a picture or a folder of pictures")->capture_default_str()->group(what);
  add_image_size(app, c, what);
  app.add_flag("--save-txt", c.save_txt, "labels/NAME.txt: probability and class, a line each")->group(output);
  app.add_flag("--nosave", c.nosave, "do not write the pictures with their classes")->group(output);
  add_run_folder(app, c, output);
  add_evaluation(app, c, machine);
  parse_arguments(app, argc, argv);
  look(c);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_tool("classify-predict", argc, argv, ::run); }
