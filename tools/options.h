#pragma once
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/autograd/ops.h"
#include "engine/optim/optimizer.h"
#include "engine/tensor/run_device.h"
#include "engine/training/run_checkpoints.h"
#include "models/run/option_file.h"
#include "tools/arguments.h"
#include "tools/console_observer.h"

/// Flags that several tools have. Each function declares some on `app`, under the heading `group` of --help, bound to the
/// fields of the tool's config that have the flags' names; defaults are the config's.
namespace frost {

/// The option itself, to be described further. `say_default`: show the config's value in --help.
template <class Config>
CLI::Option* add_image_size(CLI::App& app, Config& c, const std::string& group,
                            const std::string& help = "image size, pixels", bool say_default = true) {
  CLI::Option* option = app.add_option_function<std::vector<int>>(
      "--imgsz,--img,--img-size",
      [&c](const std::vector<int>& sizes) {  // YOLOv5's older commands give one for training and one for validation
        if (sizes.front() != sizes.back())
          throw CLI::ValidationError("--imgsz", "one size for training and validation is expected, not " +
                                                    std::to_string(sizes.front()) + " and " + std::to_string(sizes.back()));
        c.imgsz = sizes.front();
      },
      help);
  if (say_default) option->default_str(std::to_string(c.imgsz));
  return option->expected(1, 2)->type_name("INT")->transform(whole_number(32, 8192))->group(group);
}

template <class Config>
CLI::Option* add_batch_size(CLI::App& app, Config& c, const std::string& group,
                            const std::string& help = "images in a batch") {
  return app.add_option("--batch-size,--batch", c.batch_size, help)
      ->transform(whole_number(1, std::numeric_limits<int>::max(), "AutoBatch is not supported"))
      ->capture_default_str()
      ->group(group);
}

/// --conf-thres, --iou-thres, --max-det
template <class Config>
void add_thresholds(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--conf-thres", c.conf_thres, "confidence threshold")
      ->check(number(0, 1))
      ->capture_default_str()
      ->group(group);
  app.add_option("--iou-thres", c.iou_thres, "IoU threshold of non-maximum suppression")
      ->check(number(0, 1))
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-det", c.max_det, "detections kept for each image")
      ->transform(whole_number(1))
      ->capture_default_str()
      ->group(group);
}

template <class Config>
void add_workers(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--workers", c.workers, "threads that read images")
      ->transform(whole_number(0, 1024))
      ->capture_default_str()
      ->group(group);
}

/// --project, --name, --exist-ok
template <class Config>
void add_run_folder(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--project", c.project, "folder of runs")->capture_default_str()->group(group);
  app.add_option("--name", c.name, "name of the run's folder")->capture_default_str()->group(group);
  app.add_flag("--exist-ok", c.exist_ok, "use that folder even if it exists")->group(group);
}

template <class Config>
void add_device(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--device", c.device, kDeviceHelp)->group(group);
}

template <class Config>
void add_precision(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--precision", c.precision,
                 "of activations and convolutions: f32, bf16, f16 (GPU only); auto: bf16 on a GPU, f32 on a CPU")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str()
      ->group(group);
}

/// --deterministic, --tf32
template <class Config>
void add_cuda_choices(CLI::App& app, Config& c, const std::string& group) {
  app.add_flag("--deterministic", c.deterministic, "the same bits in every run on a GPU; slower (a CPU always gives them)")
      ->group(group);
  app.add_flag("--tf32", c.tf32, "TF32 tensor cores for f32 convolutions (CUDA)")->group(group);
}

/// `what` is captured: "training steps once and replay them".
template <class Config>
void add_cuda_graph(CLI::App& app, Config& c, const std::string& group, const std::string& what) {
  app.add_flag("--cuda-graph,!--no-cuda-graph", c.cuda_graph, "capture " + what + " (CUDA)")->group(group);
}

/// The device of a validation or prediction, and how it computes there: the type of activations, CUDA's choices.
template <class Config>
void add_evaluation(CLI::App& app, Config& c, const std::string& group) {
  add_device(app, c, group);
  app.add_flag("--half", c.half, "16-bit activations: f16 on a GPU, bf16 on a CPU")->group(group);
  add_cuda_choices(app, c, group);
  add_cuda_graph(app, c, group, "the network once for each shape");
  add_precision(app, c, group);
}

template <class Config>
void add_recompute(CLI::App& app, Config& c, const std::string& group) {
  app.add_flag("--recompute,!--no-recompute", c.recompute,
               "rematerialize activations in backward instead of keeping them (less memory)")
      ->group(group);
}

/// --freeze with a family's terms as `examples`, and --frozen-bn, whose other way is that of `reference`. `layers`: what
/// layers are.
template <class Config>
void add_freeze(CLI::App& app, Config& c, const std::string& group, const std::string& examples,
                const std::string& reference, const std::string& layers = "") {
  app.add_option("--freeze", c.freeze,
                 "what to freeze: N = the first N layers" + layers + "; several terms = exactly these: " + examples +
                     " = all but these")
      ->capture_default_str()
      ->group(group);
  app.add_option_function<std::string>(
         "--frozen-bn", [&c](const std::string& how) { c.frozen_bn = how == "batch" ? FrozenBn::batch : FrozenBn::running; },
         "a frozen BatchNorm uses its running statistics, or batch ones as " + reference + " does")
      ->check(CLI::IsMember({"running", "batch"}))
      ->default_str("running")
      ->group(group);
}

/// --unfreeze-at and --lr-scale, with a number of layers and a term of the family's as examples.
template <class Config>
void add_unfreeze(CLI::App& app, Config& c, const std::string& group, int layers, const std::string& term) {
  const std::string n = std::to_string(layers);
  app.add_option("--unfreeze-at", c.unfreeze_at,
                 "EPOCH:LAYERS, several: 5:" + n + " 8:0 freezes only the first " + n +
                     " layers from epoch 5 on, and none from epoch 8 on")
      ->group(group);
  app.add_option("--lr-scale", c.lr_scale,
                 "WHAT:SCALE, several: " + term + ":0.1 trains these layers at a tenth of the rate")
      ->group(group);
}

template <class Config>
void add_prune_schedule(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--prune-schedule", c.prune_schedule,
                 "prune while training, FROM:TO:EPOCHS such as 0.0:0.6:10: sparsity rises along a cubic curve. Masked "
                 "weights (also those of a pruned --weights file) stay zero; that saves no time")
      ->group(group);
}

template <class Config>
void add_optimizer(CLI::App& app, Config& c, const std::string& group) {
  app.add_option_function<std::string>(
         "--optimizer", [&c](const std::string& name) { c.optimizer = parse_optimizer(name); }, "SGD, Adam or AdamW")
      ->check(CLI::IsMember({"SGD", "Adam", "AdamW"}))
      ->default_str(name_of(c.optimizer))
      ->group(group);
}

template <class Config>
void add_epochs(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--epochs", c.epochs, "epochs in all")->transform(whole_number(1))->capture_default_str()->group(group);
}

template <class Config>
void add_label_smoothing(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--label-smoothing", c.label_smoothing, "label smoothing epsilon")
      ->check(number(0, 0.99))
      ->capture_default_str()
      ->group(group);
}

template <class Config>
void add_seed(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--seed", c.seed, "seed of weights, order and augmentation")
      ->transform(whole_number(0, std::numeric_limits<std::int64_t>::max()))
      ->capture_default_str()
      ->group(group);
}

/// A flag that says where something is kept: one of `places`, the first where none is named.
inline CLI::Option* add_place(CLI::App& app, const std::string& flag, std::string& value,
                              const std::vector<std::string>& places, const std::string& help) {
  return app
      .add_option_function<std::string>(
          flag, [&value, usual = places[0]](const std::string& said) { value = said.empty() ? usual : said; }, help)
      ->expected(0, 1)
      ->default_str("")
      ->check(CLI::IsMember(places));
}

/// Throws Error where opt.yaml has a value that its flag would not take.
template <class Config>
void check_options(CLI::App& app, const std::filesystem::path& file) {
  std::set<std::pair<std::string, std::string>> usual;  // need not be values that a person may give
  run::each_text(Config(), [&](const std::string& key, const std::string& value) { usual.emplace(key, value); });
  run::each_text(run::read_options<Config>(file), [&](std::string key, const std::string& value) {
    if (usual.contains({key, value})) return;
    std::ranges::replace(key, '_', '-');
    CLI::Option* option = app.get_option_no_throw("--" + key);
    if (!option) return;
    try {
      option->run_callback_for_default(false)->default_val(value);  // checks the value and does not set it
    } catch (const CLI::Error& e) {
      fail(file.string(), ": ", e.what());
    }
  });
}

/// --resume [FILE]. What it returns finds the newest run where no file is named, keeps the flags that say on what a run goes
/// on, and says which others have no effect since the run has its own; call it after parsing. `check`: of the run's folder,
/// what else must be right there; it throws Error.
template <class Config>
[[nodiscard]] std::function<void()> add_resume(CLI::App& app, Config& c, const std::string& group,
                                               std::function<void(const std::filesystem::path&)> check = {}) {
  CLI::Option* option =
      app.add_option(
             "--resume", c.resume,
             "go on with an interrupted run: its last.safetensors, or the newest one. The run's own options hold, but "
             "for --workers, --cache, --cuda-graph and --recompute, which change nothing in the result, and --device and "
             "--precision, which change it within rounding")
          ->expected(0, 1)
          ->group(group);
  return [&app, &c, option, check] {
    if (!option->count()) return;
    const bool newest = c.resume.empty() || c.resume == "true";
    std::string ignored;
    for (const CLI::Option* other : app.get_options()) {
      if (!other->count() || other == option || other->check_name("--dry-run") || (newest && other->check_name("--project")))
        continue;
      std::string name = other->get_name().substr(2);
      std::ranges::replace(name, '-', '_');
      const auto machine = {"device", "precision", "workers", "cache", "cuda_graph", "recompute"};
      if (std::ranges::find(machine, name) != machine.end())
        c.resume_with.push_back(name);
      else
        ignored += " " + other->get_name();
    }
    if (!ignored.empty()) std::printf("WARNING: --resume goes on with the run's own options; ignored:%s\n", ignored.c_str());
    const auto readable = [&](const std::filesystem::path& folder) {
      check_options<Config>(app, folder / "opt.yaml");
      if (check) check(folder);
    };
    if (newest) {
      ConsoleObserver observer;
      c.resume = newest_unfinished(c.project, readable, observer).string();
    } else if (const auto folder = run::folder_of(c.resume); std::filesystem::exists(folder / "opt.yaml")) {
      readable(folder);
    }
  };
}

template <class Config>
void add_dry_run(CLI::App& app, Config& c, const std::string& group) {
  app.add_flag("--dry-run", c.dry_run, "say what memory and arithmetic training will take, then stop")->group(group);
}

template <class Config>
void add_nosave(CLI::App& app, Config& c, const std::string& group) {
  app.add_flag("--nosave", c.nosave, "write a checkpoint only after the last epoch")->group(group);
}

template <class Config>
void add_noplots(CLI::App& app, Config& c, const std::string& group) {
  app.add_flag("--noplots", c.noplots, "write no pictures")->group(group);
}

template <class Config>
void add_save_period(CLI::App& app, Config& c, const std::string& group) {
  app.add_option("--save-period", c.save_period, "an extra checkpoint every so many epochs")
      ->transform(whole_number(-1))
      ->capture_default_str()
      ->group(group);
}

}  // namespace frost
