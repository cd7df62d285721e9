#include "engine/tensor/run_device.h"
#include "engine/training/loop.h"
#include "models/classify/classifier.h"
#include "models/classify/trainer.h"
#include "tools/main_guard.h"

namespace {

int run(CLI::App& app, int argc, char** argv) {
  frost::classify::TrainConfig c;
  app.description(
      "Train an image classifier.\n\n"
      "  classify-train --model resnet18 --data flowers --epochs 30                         from scratch\n"
      "  classify-train --weights resnet18.pth --data flowers --lr0 0.0001                  fine-tune all of it\n"
      "  classify-train --weights resnet18.pth --data flowers --freeze 3                    ... but not the first layers\n"
      "  classify-train --weights resnet18.pth --data flowers --feature-extract             train a new head alone\n"
      "  classify-train --weights yolov5n.pt --data flowers                                 a detector's backbone\n"
      "  classify-train --resume runs/train-cls/exp/weights/last.safetensors                go on after an interruption\n\n"
      "flowers/ holds train/ and val/ (or test/), each with one folder of pictures for each class.");
  app.get_formatter()->column_width(34);
  const std::string model = "Model", data = "Data", schedule = "Training", output = "Output", machine = "Machine";
  app.add_option("--model", c.model,
                 "resnet18, resnet34, resnet50, resnet50v2, vgg16, vgg16_bn, yolov5{n,s,m,l,x}-cls, or a file of weights")
      ->capture_default_str()
      ->group(model);
  CLI::Option* weights =
      app.add_option(
             "--weights", c.weights,
             "initial weights: torchvision's .pth, a YOLOv5 .pt (classifier or detector), a .safetensors; none = from "
             "scratch")
          ->group(model);
  app.add_option("--pretrained", c.pretrained, "false: the weights file gives the architecture alone")
      ->expected(0, 1)
      ->default_str("true")
      ->group(model);
  app.add_flag("--feature-extract", c.feature_extract, "freeze everything and train a new head alone")->group(model);
  app.add_option("--freeze", c.freeze,
                 "what to freeze: N = the first N layers (a ResNet's: stem, layer1 to layer4, fc); several terms = exactly "
                 "these: 0 2, backbone, layer1, 'layer?.*.bn*'; '!fc' = all but these")
      ->capture_default_str()
      ->group(model);
  std::string frozen_bn = "running";
  app.add_option("--frozen-bn", frozen_bn, "a frozen BatchNorm uses its running statistics, or batch ones as PyTorch does")
      ->check(CLI::IsMember({"running", "batch"}))
      ->capture_default_str()
      ->group(model);
  app.add_option("--cutoff", c.cutoff, "a detector becomes a classifier at this layer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(model);
  app.add_option("--dropout", c.dropout, "probability in every dropout layer; default: the architecture's own")
      ->check(CLI::Range(0.0, 0.99))
      ->group(model);
  app.add_option("--data", c.data, "folder with train/ and val/ (or test/)")->group(data);
  app.add_option("--imgsz,--img,--img-size", c.imgsz, "image size, pixels")
      ->check(CLI::Range(32, 8192))
      ->capture_default_str()
      ->group(data);
  app.add_option("--cache", c.cache, "keep decoded images in memory: ram")
      ->expected(0, 1)
      ->default_str("")
      ->check(CLI::IsMember({"ram"}))
      ->group(data);
  app.add_flag("--noaugment", c.noaugment, "train on the same views as in validation")->group(data);
  app.add_option("--workers", c.workers, "threads that read images")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(data);
  app.add_option("--epochs", c.epochs, "epochs in all")->check(CLI::PositiveNumber)->capture_default_str()->group(schedule);
  app.add_option("--batch-size,--batch", c.batch_size, "images in a batch")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(schedule);
  std::string optimizer = "Adam";
  app.add_option("--optimizer", optimizer, "SGD, Adam or AdamW")
      ->check(CLI::IsMember({"SGD", "Adam", "AdamW"}))
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--lr0", c.lr0, "initial learning rate; it falls linearly to a hundredth")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--decay", c.decay, "weight decay")->check(CLI::NonNegativeNumber)->capture_default_str()->group(schedule);
  app.add_option("--label-smoothing", c.label_smoothing, "label smoothing epsilon")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--seed", c.seed, "seed of weights, order and augmentation")->capture_default_str()->group(schedule);
  std::string resume;
  CLI::Option* resuming =
      app.add_option("--resume", resume, "go on with an interrupted run: its last.safetensors, or the newest one")
          ->expected(0, 1)
          ->group(schedule);
  app.add_option("--project", c.project, "folder of runs")->capture_default_str()->group(output);
  app.add_option("--name", c.name, "name of the run's folder")->capture_default_str()->group(output);
  app.add_flag("--exist-ok", c.exist_ok, "use that folder even if it exists")->group(output);
  app.add_flag("--nosave", c.nosave, "write a checkpoint only after the last epoch")->group(output);
  app.add_flag("--noplots", c.noplots, "write no pictures")->group(output);
  app.add_flag("--verbose", c.verbose, "list the parameters")->group(output);
  app.add_option("--device", c.device, frost::kDeviceHelp)->group(machine);
  app.add_option("--precision", c.precision, "of activations and convolutions: f32, or bf16 where the CPU has it")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str()
      ->group(machine);
  app.add_flag("--recompute,!--no-recompute", c.recompute,
               "make activations again in backward instead of keeping them (less memory)")
      ->group(machine);
  app.parse(argc, argv);

  c.frozen_bn = frozen_bn == "batch" ? frost::FrozenBn::batch : frost::FrozenBn::running;
  c.optimizer = frost::parse_optimizer(optimizer);
  if (weights->count() && !app.count("--model")) c.model.clear();  // the file says what it is
  if (app.count("--cache") && c.cache.empty()) c.cache = "ram";
  if (resuming->count())
    c.resume = resume.empty() || resume == "true" ? frost::newest_unfinished(c.project).string() : resume;
  frost::classify::train(c);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("classify-train", argc, argv, run); }
