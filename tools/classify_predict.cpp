#include "models/classify/val_run.h"
#include "tools/main_guard.h"
#include "tools/options.h"

namespace {

int run(CLI::App& app, int argc, char** argv) {
  frost::classify::PredictConfig c;
  app.description(
      "Say what is on pictures: the five likeliest classes of each.\n\n"
      "  classify-predict --weights runs/train-cls/exp/weights/best.safetensors --source photos");
  app.get_formatter()->column_width(34);
  const std::string what = "What", output = "Output", machine = "Machine";
  app.add_option("--weights", c.weights, "a .safetensors of classify-train, torchvision's .pth, a YOLOv5 -cls.pt")
      ->required()
      ->group(what);
  app.add_option("--source", c.source, "a picture or a folder of pictures")->capture_default_str()->group(what);
  frost::add_image_size(app, c, what);
  app.add_flag("--save-txt", c.save_txt, "labels/NAME.txt: probability and class, a line each")->group(output);
  app.add_flag("--nosave", c.nosave, "do not write the pictures with their classes")->group(output);
  frost::add_run_folder(app, c, output);
  frost::add_evaluation(app, c, machine);
  frost::parse_arguments(app, argc, argv);
  frost::classify::run_prediction(c);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("classify-predict", argc, argv, run); }
