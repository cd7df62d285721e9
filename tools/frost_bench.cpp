#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/tensor/run_device.h"
#include "models/classify/step.h"
#include "models/slim/freeze.h"
#include "models/yolo/step.h"
#include "tools/main_guard.h"

namespace {
using namespace frost;
using Clock = std::chrono::steady_clock;

/// The best of several runs, milliseconds: what the machine can do, not what its neighbours let it.
double best_ms(int repeats, const std::function<void()>& work) {
  work();  // plans, caches
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  return best;
}

/// The kernel's high-water mark of this process, in MB; `reset` starts it again (Linux).
double peak_rss_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1000;
  return 0;
}
void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << "5"; }

/// Each line is measured in a process of its own, so that no line inherits another's memory. Must run before OpenMP has
/// threads.
void in_child(const std::function<void()>& work) {
  std::fflush(stdout);
  const pid_t child = fork();
  FROST_CHECK(child >= 0, "cannot start a process");
  if (child == 0) {
    try {
      work();
      std::fflush(stdout);
      _exit(0);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "frost-bench: %s\n", e.what());
      _exit(1);
    }
  }
  int status = 0;
  FROST_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "a measurement failed");
}

/// Time of the model's convolutions alone, same shapes and passes, through the same backend: the floor of a pass.
double convolution_ms(Device& device, const Profile& profile, DType type, int repeats) {
  double total = 0;
  Backend& backend = device.backend();
  for (const Profile::ConvCall& call : profile.calls) {
    const Shape y_shape = call.geometry.output(call.x, call.filters);
    const Tensor x = Tensor::zeros(device, call.x, type), y = Tensor::zeros(device, y_shape, call.out),
                 dy = Tensor::zeros(device, y_shape, type), dx = Tensor::zeros(device, call.x, type);
    const Shape w_shape{call.filters, call.geometry.kernel_h, call.geometry.kernel_w, call.x.c / call.geometry.groups};
    const Tensor weight = Tensor::zeros(device, w_shape), dweight = Tensor::zeros(device, w_shape),
                 bias = Tensor::zeros(device, {1, 1, 1, call.filters});
    const Filters filters{weight.f32(), new_stamp()};
    total += best_ms(repeats, [&] {
      backend.conv_forward({.geometry = call.geometry,
                            .x = x,
                            .weight = filters,
                            .bias = call.folded ? bias.f32() : nullptr,
                            .activation = {call.folded ? ActivationKind::silu : ActivationKind::identity},
                            .y = y});
      if (call.backward_data) backend.conv_backward_data({.geometry = call.geometry, .dy = dy, .weight = filters, .dx = dx});
      if (call.backward_weight)
        backend.conv_backward_weight(
            {.geometry = call.geometry, .x = x, .dy = dy, .dweight = dweight.f32(), .accumulate = true});
    });
  }
  return total;
}

struct Row {
  std::string what;
  double ms, floor_ms, ledger_mb, rss_mb;
};
void print(const Row& row) {
  fmt::print("{:<46}{:>9.2f}{:>11.2f}{:>8.0f}%{:>12.1f}{:>11.1f}\n", row.what, row.ms, row.floor_ms,
             100 * row.floor_ms / row.ms, row.ledger_mb, row.rss_mb);
}

/// Inference of `model` as `forward` runs it, on an empty image.
Row inference(RunDevice& run, const std::string& what, int batch, int imgsz, int repeats,
              const std::function<void(Context&, const Var&)>& forward) {
  Device& device = *run.device;
  const Var image{Tensor::zeros(device, {batch, imgsz, imgsz, 3}, run.compute, Role::input), -1, nullptr};
  Profile profile;
  Context counted{.device = device, .compute = run.compute, .profile = &profile};
  forward(counted, image);
  device.ledger().reset_peaks();
  reset_peak_rss();
  Context context{.device = device, .compute = run.compute};
  const double ms = best_ms(repeats, [&] { forward(context, image); });
  const double rss = peak_rss_mb(), ledger = static_cast<double>(device.ledger().total().peak) / 1e6;
  return {what, ms / batch, convolution_ms(device, profile, run.compute, repeats) / batch, ledger, rss};
}

/// A training step of `model`: `step` gathers the gradients of a batch of noise.
Row training(RunDevice& run, const std::string& what, Module& model, OptimizerKind kind, int batch, int imgsz, int repeats,
             const std::function<void(const Context&, const Tensor&)>& step) {
  Device& device = *run.device;
  ParameterArena arena(device, model, 5e-4f, true);
  Optimizer optimizer(arena, device, kind);
  for (ParameterGroup& group : arena.groups()) group.lr = 1e-4f;
  Rng rng(0);
  std::vector<float> pixels(static_cast<std::size_t>(batch) * imgsz * imgsz * 3);
  for (float& p : pixels) p = static_cast<float>(rng.uniform());
  Tensor image(device, {batch, imgsz, imgsz, 3}, run.compute, Role::input);
  image.assign(pixels);
  Profile profile;
  step({.device = device, .compute = run.compute, .profile = &profile}, image);
  device.ledger().reset_peaks();
  reset_peak_rss();
  const double ms = best_ms(repeats, [&] {
    step({.device = device, .compute = run.compute}, image);
    optimizer.step(0.9f);
  });
  const double rss = peak_rss_mb(), ledger = static_cast<double>(device.ledger().total().peak) / 1e6;
  return {what, ms / batch, convolution_ms(device, profile, run.compute, repeats) / batch, ledger, rss};
}

Row detector_inference(const std::string& name, int batch, int imgsz, const std::string& precision, int repeats) {
  RunDevice run("", precision);
  DetectionModel model(*run.device, load_model_spec(name));
  return inference(run, fmt::format("{} inference {} b{} {}", name, imgsz, batch, precision), batch, imgsz, repeats,
                   [&](Context& context, const Var& image) { model.heads(context, image); });
}

Row detector_training(const std::string& name, int batch, int imgsz, const std::string& precision, int freeze,
                      bool recompute, int repeats) {
  RunDevice run("", precision);
  DetectionModel model(*run.device, load_model_spec(name));
  slim::freeze(model, slim::layer_names(model), {std::to_string(freeze)});
  Rng rng(1);
  std::vector<float> targets;
  for (int i = 0; i < batch * 7; ++i)  // seven boxes for each image, as in COCO
    for (const double value : {static_cast<double>(i / 7), rng.uniform(0, 80), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8),
                               rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4)})
      targets.push_back(static_cast<float>(value));
  yolo::LossSettings loss;
  return training(
      run, fmt::format("{} step {} b{} {} freeze {}{}", name, imgsz, batch, precision, freeze, recompute ? "" : " keep all"),
      model, OptimizerKind::sgd, batch, imgsz, repeats, [&](const Context& context, const Tensor& image) {
        yolo::train_step(context, model, image, targets, loss, recompute);
      });
}

Row classifier_inference(const std::string& name, int batch, int imgsz, const std::string& precision, int repeats) {
  RunDevice run("", precision);
  const auto model = classify::make_classifier(*run.device, name, 1000);
  return inference(run, fmt::format("{} inference {} b{} {}", name, imgsz, batch, precision), batch, imgsz, repeats,
                   [&](Context& context, const Var& image) { model->forward(context, image); });
}

Row classifier_training(const std::string& name, int batch, int imgsz, const std::string& precision, bool feature_extract,
                        bool recompute, int repeats) {
  RunDevice run("", precision);
  const auto model = classify::make_classifier(*run.device, name, 1000);
  if (feature_extract) slim::freeze(*model, model->layers(), {"!" + model->head().name()});
  std::vector<std::int64_t> labels;
  for (int i = 0; i < batch; ++i) labels.push_back(i % 1000);
  return training(run,
                  fmt::format("{} step {} b{} {}{}{}", name, imgsz, batch, precision, feature_extract ? " head alone" : "",
                              recompute ? "" : " keep all"),
                  *model, OptimizerKind::adam, batch, imgsz, repeats, [&](const Context& context, const Tensor& image) {
                    classify::train_step(context, *model, image, labels, 0.1f, recompute);
                  });
}

int run(CLI::App& app, int argc, char** argv) {
  std::string model = "yolov5n";
  std::vector<std::string> precisions{"f32"};
  std::vector<int> freezes{0, 10, 24}, sizes{320, 640};
  int repeats = 5, batch = 16;
  bool training_only = false, inference_only = false, no_recompute = false;
  app.description(
      "Time and memory of the main jobs, in one run, each beside the time of its convolutions alone (the floor: the same\n"
      "shapes and passes through oneDNN). Times are the best of --repeats, in ms for each image. Run it on an idle "
      "machine.");
  app.add_option("--model", model, "model YAML or built-in name, or a classifier: resnet18 (224, batches of 1 and 32)")
      ->capture_default_str();
  app.add_option("--precision", precisions, "f32, bf16")->capture_default_str();
  app.add_option("--freeze", freezes, "values of --freeze to train with")->capture_default_str();
  app.add_option("--imgsz", sizes, "image sizes to train at")->capture_default_str();
  app.add_option("--batch-size", batch, "images in a training batch")->capture_default_str();
  app.add_option("--repeats", repeats, "runs of each")->capture_default_str();
  app.add_flag("--train", training_only, "training steps only");
  app.add_flag("--infer", inference_only, "inference only");
  app.add_flag("--no-recompute", no_recompute, "keep all activations for backward");
  app.parse(argc, argv);

  fmt::print("{}\n\n{:<46}{:>9}{:>11}{:>9}{:>12}{:>11}\n", RunDevice("", "f32").line, "", "ms/image", "conv floor", "share",
             "ledger MB", "RSS MB");
  const std::vector<std::string> classifiers = classify::classifier_names();
  const bool classifier = std::find(classifiers.begin(), classifiers.end(), model) != classifiers.end();
  if (classifier && !app.count("--imgsz")) sizes = {224};
  if (classifier && !app.count("--batch-size")) batch = 32;
  for (const std::string& precision : precisions) {
    if (!training_only)
      for (const int b : {1, classifier ? batch : 16})
        in_child([&] {
          const int runs = repeats * (b == 1 ? 4 : 1);
          print(classifier ? classifier_inference(model, b, sizes[0], precision, runs)
                           : detector_inference(model, b, 640, precision, runs));
        });
    if (inference_only) continue;
    for (const int size : sizes) {
      if (classifier)
        for (const bool head_alone : {false, true})
          in_child([&] { print(classifier_training(model, batch, size, precision, head_alone, !no_recompute, repeats)); });
      else
        for (const int freeze : freezes)
          in_child([&] { print(detector_training(model, batch, size, precision, freeze, !no_recompute, repeats)); });
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_tool("frost-bench", argc, argv, run); }
