#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "engine/optim/optimizer.h"
#include "engine/tensor/run_device.h"
#include "engine/training/captured_step.h"
#include "models/classify/step.h"
#include "models/classify/weights.h"
#include "models/freeze.h"
#include "models/yolo/model_io.h"
#include "models/yolo/training/step.h"
#include "tools/main_guard.h"

namespace {
using namespace frost;
using Clock = std::chrono::steady_clock;

/// The best of several runs, milliseconds: what the machine can do, not what its neighbours let it.
double best_ms(Device& device, int repeats, const std::function<void()>& work) {
  for (int i = 0; i < (device.backend().can_capture() ? 3 : 1); ++i) work();  // plans, caches, a captured graph
  device.backend().synchronize();
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    work();
    device.backend().synchronize();
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

struct Settings {
  std::string device, precision;
  bool cuda_graph = true;
  int repeats = 5;
};

/// What a measurement finds.
struct Row {
  double ms = 0, bound_ms = 0, ledger_mb = 0, rss_mb = 0;  // times for each image
};

/// What `work` returns. Each line is measured in a process of its own, so that no line inherits another's memory. Must run
/// before OpenMP has threads, and before the parent has opened a device.
template <class Work, class Result = std::invoke_result_t<Work>>
Result in_child(const Work& work) {
  static_assert(std::is_trivially_copyable_v<Result>, "it goes through a pipe");
  std::fflush(stdout);
  int ends[2];
  FROST_CHECK(pipe(ends) == 0, "cannot make a pipe");
  const pid_t child = fork();
  FROST_CHECK(child >= 0, "cannot start a process");
  if (child == 0) {
    try {
      const Result result = work();
      std::fflush(stdout);
      _exit(write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "frost-bench: %s\n", e.what());
      _exit(1);
    }
  }
  Result result;
  close(ends[1]);
  const bool whole = read(ends[0], &result, sizeof result) == sizeof result;
  close(ends[0]);
  int status = 0;
  FROST_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status), "a measurement was killed");
  if (WEXITSTATUS(status) != 0 || !whole) std::exit(1);  // the child has said why
  return result;
}

/// Times of the model's convolutions alone, same shapes and passes, through the same backend: `best` keeps the best of each.
void time_convolutions(Device& device, const Profile& profile, DType type, std::vector<double>& best) {
  best.resize(profile.calls.size(), 1e30);
  Backend& backend = device.backend();
  for (std::size_t i = 0; i < best.size(); ++i) {
    const Profile::ConvCall& call = profile.calls[i];
    const Shape y_shape = call.geometry.output(call.x, call.filters);
    const Tensor x = Tensor::zeros(device, call.x, type), y = Tensor::zeros(device, y_shape, call.out),
                 dy = Tensor::zeros(device, y_shape, type), dx = Tensor::zeros(device, call.x, type);
    const Shape w_shape{call.filters, call.geometry.kernel_h, call.geometry.kernel_w, call.x.c / call.geometry.groups};
    const Tensor weight = Tensor::zeros(device, w_shape), dweight = Tensor::zeros(device, w_shape),
                 bias = Tensor::zeros(device, {1, 1, 1, call.filters});
    const Filters filters{weight.f32(), new_version()};
    const double ms = best_ms(device, 1, [&] {
      backend.conv_forward({.geometry = call.geometry,
                            .x = x,
                            .weight = filters,
                            .bias = call.bias ? bias.f32() : nullptr,
                            .activation = call.activation,
                            .y = y});
      if (call.backward_data) backend.conv_backward_data({.geometry = call.geometry, .dy = dy, .weight = filters, .dx = dx});
      if (call.backward_weight)
        backend.conv_backward_weight(
            {.geometry = call.geometry, .x = x, .dy = dy, .dweight = dweight.f32(), .accumulate = true});
    });
    best[i] = std::min(best[i], ms);
  }
}

/// A pass of `batch` images and its lower bound. They take turns, so that what slows the machine for a while slows both:
/// timed one after the other on two shared cores, the lower bound came out above the step, though it makes fewer of the same
/// calls.
Row measure(const RunDevice& run, const Profile& profile, int batch, int repeats, const std::function<void()>& pass) {
  Device& device = *run.device;
  device.ledger().reset_peaks();
  reset_peak_rss();
  Row row{.ms = best_ms(device, 1, pass)};
  row.rss_mb = peak_rss_mb();
  row.ledger_mb = static_cast<double>(device.ledger().total().peak) / 1e6;
  std::vector<double> bound;
  time_convolutions(device, profile, run.compute, bound);
  for (int i = 1; i < repeats; ++i) {
    row.ms = std::min(row.ms, best_ms(device, 1, pass));
    time_convolutions(device, profile, run.compute, bound);
  }
  row.bound_ms = std::accumulate(bound.begin(), bound.end(), 0.0) / batch;
  row.ms /= batch;
  return row;
}

void print(const std::string& what, const Row& row) {
  fmt::print("{:<46}{:>9.2f}{:>11.2f}{:>8.0f}%{:>12.1f}{:>11.1f}\n", what, row.ms, row.bound_ms, 100 * row.bound_ms / row.ms,
             row.ledger_mb, row.rss_mb);
}

/// Inference of a model as `forward` runs it, on an empty image.
Row inference(RunDevice& run, int batch, int imgsz, const Settings& settings,
              const std::function<void(Context&, const Var&)>& forward) {
  Device& device = *run.device;
  const Var image{Tensor::zeros(device, {batch, imgsz, imgsz, 3}, run.compute, Role::input), -1, nullptr};
  Profile profile;
  Context counted{.device = device, .compute = run.compute, .profile = &profile};
  forward(counted, image);
  Context context{.device = device, .compute = run.compute};
  CapturedStep pass(device, nullptr, settings.cuda_graph);
  return measure(run, profile, batch, settings.repeats, [&] { pass.run({}, [&] { forward(context, image); }); });
}

/// A family's training step on a batch of noise. `load` puts the targets where `step` finds them; `step` gathers the
/// gradients and can be captured.
struct Trained {
  Module& model;
  OptimizerKind optimizer;
  Tensor& grad_scale;  // of the loss
  std::function<void()> load;
  std::function<void(const Context&, const Tensor&)> step;
};
Row training(RunDevice& run, int batch, int imgsz, const Settings& settings, const Trained& trained) {
  Device& device = *run.device;
  ParameterArena arena(device, trained.model, 5e-4f, true);
  Optimizer optimizer(arena, device, trained.optimizer, run.compute == DType::f16);
  for (ParameterGroup& group : arena.groups()) group.lr = 1e-4f;
  Rng rng(0);
  std::vector<float> pixels(static_cast<std::size_t>(batch) * imgsz * imgsz * 3);
  for (float& p : pixels) p = static_cast<float>(rng.uniform());
  const Tensor plain = Tensor::from(device, {batch, imgsz, imgsz, 3}, pixels, Role::input);
  Tensor image(device, plain.shape(), run.compute, Role::input);
  device.backend().copy({.x = plain, .y = image});
  Profile profile;
  if (optimizer.loss_scaling()) trained.grad_scale = optimizer.loss_scale();
  trained.load();
  trained.step({.device = device, .compute = run.compute, .profile = &profile}, image);
  CapturedStep step(device, &trained.model, settings.cuda_graph);
  return measure(run, profile, batch, settings.repeats, [&] {
    trained.load();
    optimizer.set(0.937f);
    step.run({}, [&] {
      trained.step({.device = device, .compute = run.compute}, image);
      optimizer.queue(10.0);
    });
    optimizer.touch();
  });
}

bool is_checkpoint(const std::string& name) {
  const std::filesystem::path kind = std::filesystem::path(name).extension();
  return kind == ".pt" || kind == ".pth" || kind == ".safetensors";
}

/// A checkpoint's model, as wide as its tensors are, or a new one of a YAML.
std::unique_ptr<DetectionModel> detector(Device& device, const std::string& name) {
  if (is_checkpoint(name)) return yolo::load_model(device, name);
  return std::make_unique<DetectionModel>(device, load_model_spec(name));
}

/// A checkpoint's model, as wide as its tensors are, or a new one of 1000 classes.
std::unique_ptr<classify::Classifier> classifier(Device& device, const std::string& name) {
  if (is_checkpoint(name)) return classify::load_classifier(device, name);
  return classify::make_classifier(device, name, 1000);
}

bool is_classifier(const std::string& name) {
  if (is_checkpoint(name)) return !classify::read_classifier_weights(name).detector;
  const std::vector<std::string> names = classify::classifier_names();
  return std::ranges::find(names, name) != names.end();
}

Row detector_inference(const std::string& name, int batch, int imgsz, const Settings& settings) {
  RunDevice run(settings.device, settings.precision);
  const auto model = detector(*run.device, name);
  std::vector<Var> maps;
  return inference(run, batch, imgsz, settings, [&](Context& context, const Var& image) {
    maps.clear();  // the last pass' results do not stand beside this one's
    maps = model->heads(context, image);
  });
}

Row detector_training(const std::string& name, int batch, int imgsz, const Settings& settings, int freeze, bool recompute) {
  RunDevice run(settings.device, settings.precision);
  const auto made = detector(*run.device, name);
  DetectionModel& model = *made;
  frost::freeze(model, model.layers(), {std::to_string(freeze)});
  Rng rng(1);
  std::vector<float> targets;
  for (int i = 0; i < batch * 7; ++i)  // seven boxes for each image, as in COCO
    for (const double value : {static_cast<double>(i / 7), rng.uniform(0, model.detect().classes), rng.uniform(0.2, 0.8),
                               rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4)})
      targets.push_back(static_cast<float>(value));
  yolo::LossState loss(*run.device, {}, batch * 7);
  return training(run, batch, imgsz, settings,
                  {.model = model,
                   .optimizer = OptimizerKind::sgd,
                   .grad_scale = loss.grad_scale,
                   .load = [&] { loss.set_targets(targets, batch, model.detect().classes); },
                   .step = [&](const Context& context,
                               const Tensor& image) { yolo::train_step(context, model, image, loss, recompute); }});
}

Row classifier_inference(const std::string& name, int batch, int imgsz, const Settings& settings) {
  RunDevice run(settings.device, settings.precision);
  const auto model = classifier(*run.device, name);
  Var logits;
  return inference(run, batch, imgsz, settings, [&](Context& context, const Var& image) {
    logits = Var();
    logits = model->forward(context, image);
  });
}

Row classifier_training(const std::string& name, int batch, int imgsz, const Settings& settings, bool head_alone,
                        bool recompute) {
  RunDevice run(settings.device, settings.precision);
  const auto model = classifier(*run.device, name);
  if (head_alone) frost::freeze(*model, model->layers(), {"!" + model->head().name()});
  std::vector<std::int64_t> labels;
  for (int i = 0; i < batch; ++i) labels.push_back(i % model->classes());
  classify::LossState loss(*run.device, batch, 0.1f);
  return training(run, batch, imgsz, settings,
                  {.model = *model,
                   .optimizer = OptimizerKind::adam,
                   .grad_scale = loss.grad_scale,
                   .load = [&] { loss.set_labels(labels); },
                   .step = [&](const Context& context,
                               const Tensor& image) { classify::train_step(context, *model, image, loss, recompute); }});
}

/// What the chip can do: a copy of 256 MB, and a product of 16384 x 4096 by 4096 x 4096 values.
void print_rates(const Settings& settings) {
  struct Rates {
    double copy_gbps, product_tflops;
  };
  const Rates rates = in_child([&] {
    RunDevice run(settings.device, settings.precision);
    Device& device = *run.device;
    fmt::print("{}\n", run.line);
    const Tensor from = Tensor::zeros(device, {1, 1, 1, 64 << 20}), to = Tensor::zeros(device, from.shape());
    const double copy_ms = best_ms(device, settings.repeats, [&] { device.backend().copy({.x = from, .y = to}); });
    const bool large = device.backend().can_capture();
    const std::int64_t rows = large ? 16384 : 1024, width = large ? 4096 : 1024;
    const Tensor x = Tensor::zeros(device, {1, 1, rows, width}, run.compute),
                 y = Tensor::zeros(device, x.shape(), run.compute), weight = Tensor::zeros(device, {width, 1, 1, width});
    const Filters filters{weight.f32(), new_version()};
    const double gemm_ms = best_ms(device, settings.repeats, [&] {
      device.backend().conv_forward({.geometry = {}, .x = x, .weight = filters, .activation = {}, .y = y});
    });
    return Rates{2.0 * 4 * static_cast<double>(from.elements()) / copy_ms / 1e6,
                 2.0 * static_cast<double>(rows) * static_cast<double>(width * width) / gemm_ms / 1e9};
  });
  fmt::print("copy {:.1f} GB/s, product {:.2f} TFLOP/s\n\n", rates.copy_gbps, rates.product_tflops);
}

/// What compare_torch.py says, or why it says nothing.
nlohmann::json torch_says(const std::string& arguments) {
  std::filesystem::path script = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "compare_torch.py";
  if (!std::filesystem::exists(script)) script = "tools/compare_torch.py";
  FROST_CHECK(std::filesystem::exists(script), "compare_torch.py: found neither beside the program nor in tools/");
  FILE* output = popen(("python3 '" + script.string() + "' " + arguments).c_str(), "r");
  FROST_CHECK(output, "python3 cannot be started");
  std::string text;
  for (char part[512]; std::fgets(part, sizeof part, output);) text += part;
  pclose(output);
  const auto line = nlohmann::json::parse(text, nullptr, false);
  return line.is_object() ? line : nlohmann::json{{"error", "python3 said nothing"}};
}

/// frost beside PyTorch: the same models, shapes and precision; images a second, and the peak of memory in training.
void compare_with_torch(const std::vector<std::string>& models, int batch, int imgsz, const Settings& settings) {
  fmt::print("{:<10}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}\n{:<10}{:>36}{:>36}{:>24}\n", "", "frost", "eager",
             "compile", "frost", "eager", "compile", "frost", "eager", "", "forward, images/s", "training, images/s",
             "training peak, MB");
  bool torch = true;
  for (const std::string& model : models) {
    const Row forward = in_child([&] { return detector_inference(model, batch, imgsz, settings); });
    const Row step = in_child([&] { return detector_training(model, batch, imgsz, settings, 0, true); });
    std::vector<std::string> cells;
    std::string why, eager_peak = "-";
    for (const char* pass : {"", " --train"})
      for (const char* how : {"", " --compile"}) {
        cells.emplace_back("-");
        if (!torch) continue;
        const auto said =
            torch_says(fmt::format("--model {} --batch-size {} --imgsz {} --precision {} --device {} --repeats {}{}{}",
                                   model, batch, imgsz, settings.precision, settings.device, settings.repeats, pass, how));
        if (said.contains("error")) {
          why = said["error"];
          torch = why.find("not installed") == std::string::npos;
          continue;
        }
        cells.back() = fmt::format("{:.1f}", said["images_per_s"].get<double>());
        if (*pass && !*how) eager_peak = fmt::format("{:.0f}", said["peak_mb"].get<double>());
      }
    fmt::print("{:<10}{:>12.1f}{:>12}{:>12}{:>12.1f}{:>12}{:>12}{:>12.0f}{:>12}\n", model, 1000 / forward.ms, cells[0],
               cells[1], 1000 / step.ms, cells[2], cells[3], step.ledger_mb, eager_peak);
    if (!why.empty()) fmt::print("{}: {}\n", torch ? "PyTorch" : "no columns of PyTorch", why);
    std::fflush(stdout);
  }
}

int run(CLI::App& app, int argc, char** argv) {
  std::vector<std::string> models{"yolov5n"};
  std::vector<std::string> precisions{"auto"};
  std::vector<int> freezes{0, 10, 24}, sizes{320, 640};
  Settings settings;
  std::string compare;
  int batch = 16;
  bool training_only = false, inference_only = false, no_recompute = false;
  app.description(
      "Time and memory of the main jobs, in one run, each beside the time of its convolutions alone (the lower bound: the "
      "same\n"
      "shapes and passes through oneDNN). Times are the best of --repeats, in ms for each image. Run it on an idle "
      "machine.");
  app.add_option("--model", models,
                 "model YAMLs, built-in names of detectors or classifiers (yolov5s, resnet18), or checkpoints of either "
                 "(.safetensors, .pt, .pth), as narrow as they are; classifiers at 224, batches of 1 and 32")
      ->capture_default_str();
  app.add_option("--device", settings.device, kDeviceHelp);
  app.add_option("--compare", compare, "torch: PyTorch's times beside frost's, for yolov5n to yolov5x or --model")
      ->check(CLI::IsMember({"torch"}));
  app.add_flag("--cuda-graph,!--no-cuda-graph", settings.cuda_graph, "capture each step once and replay it (CUDA)");
  app.add_option("--precision", precisions, "f32, bf16, f16; auto: bf16 on a GPU, f32 on a CPU")->capture_default_str();
  app.add_option("--freeze", freezes, "values of --freeze to train with")->capture_default_str();
  app.add_option("--imgsz", sizes, "image sizes to train at")->transform(whole_number(32, 8192))->capture_default_str();
  app.add_option("--batch-size", batch, "images in a training batch")->transform(whole_number(1))->capture_default_str();
  app.add_option("--repeats", settings.repeats, "runs of each")->transform(whole_number(1))->capture_default_str();
  app.add_flag("--train", training_only, "training steps only");
  app.add_flag("--infer", inference_only, "inference only");
  app.add_flag("--no-recompute", no_recompute, "keep all activations for backward");
  parse_arguments(app, argc, argv);

  for (std::string& precision : precisions) {  // as the device has it; the parent never opens it
    const Row found = in_child([&] {
      const RunDevice run(settings.device, precision);
      return Row{static_cast<double>(run.compute), run.device->backend().can_capture() ? 1.0 : 0.0};
    });
    precision = name_of(static_cast<DType>(found.ms));
    if (settings.device.empty() || settings.device == "auto") settings.device = found.bound_ms > 0 ? "cuda" : "cpu";
  }
  if (!compare.empty()) {
    if (!app.count("--model")) models = {"yolov5n", "yolov5s", "yolov5m", "yolov5l", "yolov5x"};
    for (const std::string& precision : precisions) {
      settings.precision = precision;
      print_rates(settings);
      compare_with_torch(models, batch, app.count("--imgsz") ? sizes.front() : 640, settings);
    }
    return 0;
  }
  const std::string keep = no_recompute ? " keep all" : "";
  for (const std::string& precision : precisions) {
    settings.precision = precision;
    print_rates(settings);
    fmt::print("{:<46}{:>9}{:>11}{:>9}{:>12}{:>11}\n", "", "ms/image", "conv alone", "share", "ledger MB", "RSS MB");
    for (const std::string& model : models) {
      const bool classifies = in_child([&] { return is_classifier(model); });
      const int many = app.count("--batch-size") || !classifies ? batch : 32;
      if (!training_only)
        for (const int b : {1, classifies ? many : 16}) {
          Settings more = settings;
          if (b == 1) more.repeats *= 4;
          const int size = !classifies ? 640 : app.count("--imgsz") ? sizes[0] : 224;
          print(fmt::format("{} inference {} b{} {}", model, size, b, precision), in_child([&] {
                  return classifies ? classifier_inference(model, b, size, more) : detector_inference(model, b, size, more);
                }));
        }
      if (inference_only) continue;
      const auto step = [&](int size, int b) { return fmt::format("{} step {} b{} {}", model, size, b, precision); };
      if (classifies)
        for (const int size : app.count("--imgsz") ? sizes : std::vector<int>{224})
          for (const int b : {1, many})
            for (const bool head_alone : {false, true})
              print(step(size, b) + (head_alone ? " head alone" : "") + keep,
                    in_child([&] { return classifier_training(model, b, size, settings, head_alone, !no_recompute); }));
      else
        for (const int size : sizes)
          for (const int freeze : freezes)
            print(fmt::format("{} freeze {}{}", step(size, batch), freeze, keep),
                  in_child([&] { return detector_training(model, batch, size, settings, freeze, !no_recompute); }));
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_tool("frost-bench", argc, argv, run); }
