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

#include "engine/tensor/run_device.h"
#include "engine/training/captured_step.h"
#include "engine/training/ema.h"
#include "engine/training/updater.h"
#include "kernels/trace/trace.h"
#include "models/classify/classifier.h"
#include "models/families/load_model.h"
#include "models/families/rehearsal.h"
#include "tools/main_guard.h"

namespace {
using namespace frost;
using Clock = std::chrono::steady_clock;

/// The best of several runs, milliseconds: what the machine can do without other work.
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

/// What `work` returns. Each line is measured in a process of its own, so that no line includes another's memory. Must run
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
  if (WEXITSTATUS(status) != 0 || !whole) std::exit(1);  // the child has printed the cause
  return result;
}

/// The convolutions of a pass, from the same pass on a meta device. What only its first run does (fused weights) is left
/// out.
template <class Prepare>
std::vector<PrimitiveCall> convolutions_of(const Backend& like, const Prepare& prepare) {
  std::vector<PrimitiveCall> calls;
  Device device(make_meta_backend(like, [&](const PrimitiveCall& call) {
    if (call.primitive >= Primitive::conv_forward && call.primitive <= Primitive::conv_backward_weight)
      calls.push_back(call);
  }));
  const auto pass = prepare(device);
  pass->run();
  calls.clear();
  pass->run();
  return calls;
}

/// Their times alone, in milliseconds: `best` keeps the best of each.
void time_convolutions(Device& device, const std::vector<PrimitiveCall>& calls, std::vector<double>& best) {
  best.resize(calls.size(), 1e30);
  for (std::size_t i = 0; i < best.size(); ++i) {
    std::vector<Tensor> operands;
    const auto memory = [&](std::size_t bytes) {
      operands.push_back(Tensor::zeros(device, {1, 1, 1, static_cast<std::int64_t>(bytes)}, DType::u8, Role::workspace));
      return operands.back().data();
    };
    best[i] = std::min(best[i], best_ms(device, 1, calls[i].bind(device.backend(), memory)));
  }
}

/// A pass of `batch` images and its lower bound. `prepare` makes the pass on a device. They take turns, so that what slows
/// the machine for a while slows both: timed one after the other on two shared cores, the lower bound came out above the
/// step, though it makes fewer of the same calls.
template <class Prepare>
Row measure(const RunDevice& run, int batch, int repeats, const Prepare& prepare) {
  Device& device = *run.device;
  const std::vector<PrimitiveCall> convolutions = convolutions_of(device.backend(), prepare);
  const auto made = prepare(device);
  const auto pass = [&] { made->run(); };
  device.ledger().reset_peaks();
  reset_peak_rss();
  Row row{.ms = best_ms(device, 1, pass)};
  row.rss_mb = peak_rss_mb();
  row.ledger_mb = static_cast<double>(device.ledger().total().peak) / 1e6;
  std::vector<double> bound;
  time_convolutions(device, convolutions, bound);
  for (int i = 1; i < repeats; ++i) {
    row.ms = std::min(row.ms, best_ms(device, 1, pass));
    time_convolutions(device, convolutions, bound);
  }
  row.bound_ms = std::accumulate(bound.begin(), bound.end(), 0.0) / batch;
  row.ms /= batch;
  return row;
}

void print(const std::string& what, const Row& row) {
  fmt::print("{:<46}{:>9.2f}{:>11.2f}{:>8.0f}%{:>12.1f}{:>11.1f}\n", what, row.ms, row.bound_ms, 100 * row.bound_ms / row.ms,
             row.ledger_mb, row.rss_mb);
}

/// A checkpoint's model, as wide as its tensors are, or a new one: of COCO's or of ImageNet's classes.
std::unique_ptr<Model> open_model(Device& device, const std::string& name) {
  const std::filesystem::path kind = std::filesystem::path(name).extension();
  if (kind == ".pt" || kind == ".pth" || kind == ".safetensors") return load_model(device, name);
  return make_model(device, name);
}

/// The model on a device: itself, or a copy where that is not its own.
struct Network {
  std::unique_ptr<Model> copy;
  Model& model;
  Network(Device& device, Model& given)
      : copy(is_meta(device.backend()) ? given.copy_architecture(device) : nullptr), model(copy ? *copy : given) {}
};

/// Inference on an empty image.
class InferencePass {
 public:
  InferencePass(Device& device, Model& model, DType compute, const Shape& image, bool cuda_graph)
      : network_(device, model),
        context_{.device = device, .compute = compute},
        image_{Tensor::zeros(device, image, compute, Role::input), -1, nullptr},
        captured_(device, nullptr, cuda_graph) {}
  void run() {
    captured_.run({}, [&] {
      outputs_.clear();  // frees the last pass' results before this one's
      outputs_ = network_.model.outputs(context_, image_);
    });
  }

 private:
  Network network_;
  Context context_;
  Var image_;
  CapturedStep captured_;
  std::vector<Var> outputs_;
};

/// A training step: the family's own task on a batch of noise, and the update.
class TrainingPass {
 public:
  TrainingPass(Device& device, Model& model, const StepPlan& plan, const NoiseOptions& noise, OptimizerKind optimizer)
      : network_(device, model),
        task_(noise_task(model, plan, noise)(device, network_.model)),
        arena_(device, network_.model, 5e-4f, true),
        ema_(device, network_.model, arena_, moving_statistics(network_.model, plan.frozen_bn)),
        updater_(device, arena_, ema_, {.lr0 = 1e-4, .batch_size = noise.batch_size, .nominal_batch = noise.batch_size},
                 optimizer, 10.0, plan.compute == DType::f16, plan.cuda_graph) {
    if (plan.compute == DType::f16) task_->use_loss_scale(updater_.optimizer().loss_scale());
    task_->begin_epoch(0);
  }
  void run() {
    updater_.begin_batch(0, batch_++);
    task_->train_batch();
    updater_.end_batch();
  }

 private:
  Network network_;
  std::unique_ptr<Task> task_;
  ParameterArena arena_;
  ModelEma ema_;
  Updater updater_;
  std::int64_t batch_ = 0;
};

Row inference(const std::string& name, int batch, int imgsz, const Settings& settings) {
  const RunDevice run(settings.device, settings.precision);
  const auto model = open_model(*run.device, name);
  return measure(run, batch, settings.repeats, [&](Device& device) {
    return std::make_shared<InferencePass>(device, *model, run.compute, Shape{batch, imgsz, imgsz, 3}, settings.cuda_graph);
  });
}

/// `freeze`: as --freeze; empty: all but a classifier's head.
Row training(const std::string& name, int batch, int imgsz, const Settings& settings, std::string freeze, bool recompute) {
  const RunDevice run(settings.device, settings.precision);
  const auto model = open_model(*run.device, name);
  const auto* classifier = dynamic_cast<const classify::Classifier*>(model.get());
  if (freeze.empty()) freeze = "!" + classifier->head().name();
  model->freeze({freeze});
  const StepPlan plan{.compute = run.compute, .recompute = recompute, .cuda_graph = settings.cuda_graph};
  return measure(run, batch, settings.repeats, [&](Device& device) {
    return std::make_shared<TrainingPass>(device, *model, plan, NoiseOptions{batch, imgsz},
                                          classifier ? OptimizerKind::adam : OptimizerKind::sgd);
  });
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

/// The output of compare_torch.py, or why there is none.
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
    const Row forward = in_child([&] { return inference(model, batch, imgsz, settings); });
    const Row step = in_child([&] { return training(model, batch, imgsz, settings, "0", true); });
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
      const bool classifies = in_child([&] {
        const RunDevice run("cpu", "f32");
        return dynamic_cast<classify::Classifier*>(open_model(*run.device, model).get()) != nullptr;
      });
      const int many = app.count("--batch-size") || !classifies ? batch : 32;
      if (!training_only)
        for (const int b : {1, classifies ? many : 16}) {
          Settings more = settings;
          if (b == 1) more.repeats *= 4;
          const int size = !classifies ? 640 : app.count("--imgsz") ? sizes[0] : 224;
          print(fmt::format("{} inference {} b{} {}", model, size, b, precision),
                in_child([&] { return inference(model, b, size, more); }));
        }
      if (inference_only) continue;
      const auto step = [&](int size, int b) { return fmt::format("{} step {} b{} {}", model, size, b, precision); };
      if (classifies)
        for (const int size : app.count("--imgsz") ? sizes : std::vector<int>{224})
          for (const int b : {1, many})
            for (const bool head_alone : {false, true})
              print(step(size, b) + (head_alone ? " head alone" : "") + keep,
                    in_child([&] { return training(model, b, size, settings, head_alone ? "" : "0", !no_recompute); }));
      else
        for (const int size : sizes)
          for (const int freeze : freezes)
            print(fmt::format("{} freeze {}{}", step(size, batch), freeze, keep),
                  in_child([&] { return training(model, batch, size, settings, std::to_string(freeze), !no_recompute); }));
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_tool("frost-bench", argc, argv, run); }
