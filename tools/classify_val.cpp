#include "engine/tensor/run_device.h"
#include "models/classify/val_run.h"
#include "tools/main_guard.h"

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
  app.add_option("--imgsz,--img,--img-size", c.imgsz, "image size, pixels")
      ->check(CLI::Range(32, 8192))
      ->capture_default_str()
      ->group(what);
  app.add_option("--batch-size,--batch", c.batch_size, "images in a batch")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(what);
  app.add_flag("--verbose,!--no-verbose", c.verbose, "print the tables")->group(output);
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
  app.add_option("--precision", c.precision, "of activations and convolutions: f32, or bf16 where the CPU has it")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str()
      ->group(machine);
  app.parse(argc, argv);
  frost::classify::run_validation(c);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("classify-val", argc, argv, run); }
