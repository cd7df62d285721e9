#include "models/classify/val_command.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"

namespace {

int run(CLI::App& app, int argc, char** argv) {
  frost::classify::ValConfig c;
  app.description(
      "Validate an image classifier: top-1 and top-5 accuracy, class by class, and who is taken for whom.\n\n"
      "  classify-val --weights runs/train-cls/exp/weights/best.safetensors --data flowers\n\n"
      "flowers/ holds test/ or val/ with one folder of pictures for each class.");
  app.get_formatter()->column_width(34);
  const std::string what = "What", output = "Output", machine = "Machine";
  app.add_option("--data", c.data, "folder with test/ or val/")->required()->group(what);
  app.add_option("--weights", c.weights, "a .safetensors of classify-train, torchvision's .pth, a YOLOv5 -cls.pt")
      ->required()
      ->group(what);
  frost::add_image_size(app, c, what);
  frost::add_batch_size(app, c, what);
  app.add_flag("--strict", c.strict, "a corrupt picture ends the run; otherwise it is left out, with a warning")
      ->group(what);
  app.add_flag("--verbose,!--no-verbose", c.verbose, "print the tables")->group(output);
  frost::add_run_folder(app, c, output);
  frost::add_noplots(app, c, output);
  frost::add_workers(app, c, machine);
  frost::add_evaluation(app, c, machine);
  frost::parse_arguments(app, argc, argv);
  frost::ConsoleObserver observer;
  frost::classify::run_validation(c, observer);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("classify-val", argc, argv, run); }
