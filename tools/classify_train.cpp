#include <fmt/format.h>
#include <fmt/ranges.h>

#include "models/classify/classifier.h"
#include "models/classify/trainer.h"
#include "tools/console_observer.h"
#include "tools/main_guard.h"
#include "tools/options.h"

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
                 fmt::format("{}, or a file of weights", fmt::join(frost::classify::classifier_names(), ", ")))
      ->capture_default_str()
      ->group(model);
  CLI::Option* weights =
      app.add_option(
             "--weights", c.weights,
             "initial weights: torchvision's .pth, a YOLOv5 .pt (classifier or detector), a .safetensors; none = from "
             "scratch")
          ->group(model);
  app.add_option("--pretrained", c.pretrained, "false: the weights file gives the architecture and its widths, no values")
      ->expected(0, 1)
      ->default_str("true")
      ->group(model);
  app.add_flag("--feature-extract", c.feature_extract, "freeze everything and train a new head alone")->group(model);
  frost::add_freeze(app, c, model, "0 2, backbone, layer1, 'layer?.*.bn*'; '!fc'", "PyTorch",
                    " (a ResNet's: stem, layer1 to layer4, fc)");
  frost::add_unfreeze(app, c, model, 3, "layer1");
  app.add_option("--cutoff", c.cutoff, "a detector becomes a classifier at this layer")
      ->transform(frost::whole_number(1))
      ->capture_default_str()
      ->group(model);
  app.add_option("--dropout", c.dropout, "probability in every dropout layer; default: the architecture's own")
      ->check(frost::number(0, 0.99))
      ->group(model);
  app.add_option("--data", c.data, "folder with train/ and val/ (or test/)")->group(data);
  frost::add_image_size(app, c, data);
  frost::add_place(app, "--cache", c.cache, {"ram"}, "keep decoded images in memory: ram")->group(data);
  app.add_flag("--noaugment", c.noaugment, "train on the same views as in validation")->group(data);
  app.add_flag("--strict", c.strict, "a corrupt picture ends the run; otherwise it is left out, with a warning")
      ->group(data);
  frost::add_workers(app, c, data);
  frost::add_epochs(app, c, schedule);
  frost::add_batch_size(app, c, schedule);
  frost::add_optimizer(app, c, schedule);
  frost::add_prune_schedule(app, c, schedule);
  app.add_option("--lr0", c.lr0, "initial learning rate; it falls linearly to a hundredth")
      ->check(frost::number(1e-12, 1000))
      ->capture_default_str()
      ->group(schedule);
  app.add_option("--decay", c.decay, "weight decay")->check(frost::number(0, 1000))->capture_default_str()->group(schedule);
  frost::add_label_smoothing(app, c, schedule);
  frost::add_seed(app, c, schedule);
  const auto find_run = frost::add_resume(app, c, schedule);
  frost::add_dry_run(app, c, output);
  frost::add_run_folder(app, c, output);
  frost::add_nosave(app, c, output);
  frost::add_noplots(app, c, output);
  frost::add_save_period(app, c, output);
  app.add_flag("--verbose", c.verbose, "list the parameters")->group(output);
  frost::add_device(app, c, machine);
  frost::add_precision(app, c, machine);
  frost::add_cuda_choices(app, c, machine);
  frost::add_cuda_graph(app, c, machine, "training steps, and in validation the network, once and replay them");
  frost::add_recompute(app, c, machine);
  frost::parse_arguments(app, argc, argv);
  if (weights->count() && !app.count("--model")) c.model.clear();  // the file says what it is
  find_run();
  frost::ConsoleObserver observer;
  frost::classify::train(c, observer);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return frost::run_tool("classify-train", argc, argv, run); }
