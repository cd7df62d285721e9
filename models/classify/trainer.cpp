#include "models/classify/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/data/epoch_order.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/classify/task.h"
#include "models/classify/weights.h"
#include "models/run/option_file.h"
#include "models/run/train.h"
#include "models/slim/explain_command.h"
#include "models/slim/prune.h"
#include "models/slim/training_plan.h"
#include "models/zoo/weights.h"

namespace frost::classify {
namespace {

bool is_file_name(const std::string& text) {
  return text.ends_with(".pt") || text.ends_with(".pth") || text.ends_with(".safetensors");
}

struct Built {
  std::unique_ptr<Classifier> model;
  std::string fresh;  // the module that weights never fill when a new head is asked for: `fc`, a detector's `model.9`
};
/// The model of --model and --weights, for the data's classes.
Built build(const TrainConfig& config, Device& device, const std::vector<std::string>& classes, Observer& observer) {
  std::string architecture = config.model, file = config.weights;
  if (is_file_name(architecture)) {
    FROST_CHECK(file.empty(), "--model ", architecture, " is a file of weights, and --weights names another one");
    file = architecture, architecture.clear();
  }
  ClassifierWeights weights;
  if (!file.empty()) {
    weights = read_classifier_weights(find_weights(file, observer));
    if (weights.architecture.empty()) weights.architecture = architecture;
    FROST_CHECK(architecture.empty() || architecture == weights.architecture, weights.file, ": ",
                weights.detector ? "becomes a " : "holds a ", weights.architecture, ", --model says ", architecture);
  }
  const int count = static_cast<int>(classes.size());
  Built built;
  built.model = weights.file.empty() ? make_classifier(device, architecture, count, config.seed, config.cutoff)
                                     : build_classifier(device, weights, count, config.seed,
                                                        weights.detector ? config.cutoff : weights.cutoff);
  built.model->names = classes;
  if (config.dropout >= 0) built.model->set_dropout(static_cast<float>(config.dropout));
  if (!config.pretrained) weights.state = StateDict();
  if (!weights.state.empty()) {
    for (const std::string& line : take_weights(*built.model, weights, config.feature_extract))
      observer.notice(fmt::format("{}\n", line));
    if (const std::string line = slim::sparsity_line(slim::sparsity(*built.model)); !line.empty())
      observer.notice(fmt::format("{}: zeros stay zero\n", line));
  }
  built.fresh = built.model->head().name();
  if (weights.detector) built.fresh = built.fresh.substr(0, built.fresh.rfind(".linear"));
  return built;
}

/// What is left to train.
void print_trainable(Classifier& model, Observer& observer) {
  std::int64_t all = 0, trained = 0;
  std::size_t tensors = 0;
  std::string list;
  for (const Parameter* p : model.parameters()) {
    all += p->value.elements();
    if (!p->trainable) continue;
    trained += p->value.elements();
    ++tensors;
    if (tensors <= 12) list += fmt::format("  {} {}\n", p->name, shape_text(p->torch_shape));
  }
  if (trained < all)
    observer.notice(fmt::format("{}{} of {} parameters in {} tensors\n{}{}", bold_blue("trainable: "), trained, all, tensors,
                                list, tensors > 12 ? "  ...\n" : ""));
}

LoopOptions loop_options(const TrainConfig& config, std::int64_t batches, DType compute) {
  return {.schedule = {.lr0 = config.lr0,
                       .lrf = 0.01,
                       .momentum = 0.9,
                       .warmup_epochs = 0,
                       .warm_momentum = false,
                       .lag = false,
                       .epochs = config.epochs,
                       .batches_per_epoch = batches,
                       .batch_size = config.batch_size,
                       .nominal_batch = config.batch_size,
                       .minimum_warmup = 0},
          .optimizer = config.optimizer,
          .loss_scaling = compute == DType::f16,
          .cuda_graph = config.cuda_graph,
          .patience = 0,
          .save_period = config.save_period,
          .nosave = config.nosave,
          .folder = {},
          .lr_columns = {"lr/0"},
          .csv_width = 23,
          .next_lr = true};
}

}  // namespace

std::filesystem::path train(const TrainConfig& config, Observer& observer) {
  return train(config, nullptr, observer).folder;
}

run::RunResult train(const TrainConfig& given, std::unique_ptr<Classifier> start, Observer& observer) {
  TrainConfig config = given;
  run::RunPlace place;
  place.folder = run::load_resume(config);
  if (const std::filesystem::path& folder = place.folder; !folder.empty()) {
    if (!given.dry_run) place.lock = run::take_folder(folder, false, observer);
    place.resume = config.resume;
    config.model = config.resume, config.weights.clear();  // the graph and the head are the checkpoint's,
    config.feature_extract = false;                        // which is not new any more
    config.dry_run = given.dry_run;
  }
  if (config.feature_extract) {
    const bool weights = config.pretrained && (!config.weights.empty() || is_file_name(config.model));
    FROST_CHECK(weights, "--feature-extract needs --weights: a frozen network of random weights has no features");
    FROST_CHECK(config.freeze == TrainConfig().freeze, "--feature-extract says what is frozen; leave --freeze out");
  }
  FROST_CHECK(!config.data.empty(),
              "--data is missing: a folder with train/ and val/ (or test/), one folder for each class");
  const RunDevice run_device = start ? RunDevice(start->device(), config.precision)
                                     : RunDevice(config.device, config.precision, {config.deterministic, config.tf32});
  config.precision = name_of(run_device.compute);  // a resumed run continues with the same type
  Device& device = *run_device.device;
  observer.notice(fmt::format("{}{}\n{}\n\n", bold_blue("classify/train: "), run::options_line(config), run_device.line));

  const DataSplits data = find_splits(config.data);
  report_scan(data.train, config.strict, observer), report_scan(data.val, config.strict, observer);
  config.batch_size = static_cast<int>(std::min<std::int64_t>(config.batch_size, data.train.size()));
  const int imgsz = Classifier::whole_strides(config.imgsz, observer);

  if (start) start->set_classes(data.train.classes, config.seed);
  const auto [model, fresh] = start ? Built{std::move(start), ""} : build(config, device, data.train.classes, observer);
  if (config.feature_extract) config.freeze = {"!" + fresh};  // a resumed run finds it in opt.yaml
  slim::Plan plan(*model, slim::plan_flags(config), observer);
  print_trainable(*model, observer);
  for (const std::string& line : plan.rates()) observer.notice(fmt::format("{}\n", line));
  if (config.verbose)
    for (const Parameter* p : model->parameters())
      observer.notice(fmt::format("{:<40}{:<20}{}\n", p->name, shape_text(p->torch_shape), p->trainable ? "" : "frozen"));
  observer.notice(fmt::format("{}\n", model->summary(imgsz)));
  const StepPlan step{.compute = run_device.compute,
                      .frozen_bn = config.frozen_bn,
                      .recompute = config.recompute,
                      .cuda_graph = config.cuda_graph,
                      .strict = config.strict,
                      .label_smoothing = static_cast<float>(config.label_smoothing),
                      .seed = config.seed};
  if (config.dry_run) {
    const slim::TrainingSetting setting{.batch_size = config.batch_size,
                                        .imgsz = imgsz,
                                        .compute = run_device.compute,
                                        .optimizer = config.optimizer,
                                        .frozen_bn = config.frozen_bn,
                                        .freeze = plan.begin_last_stage()};
    const auto make = [&](FeatureCache) { return noise_task(step, {config.batch_size, imgsz}); };
    slim::explain_training(*model, setting, device.backend(), make, observer);
    return {};
  }

  const int workers = worker_count(config.workers, config.batch_size);
  const std::string name = std::filesystem::path(config.data).lexically_normal().string();
  ClassificationTask task(device, *model, step,
                          make_batches({.splits = data,
                                        .name = name,
                                        .imgsz = imgsz,
                                        .batch_size = config.batch_size,
                                        .workers = workers,
                                        .augment = !config.noaugment,
                                        .cache = !config.cache.empty(),
                                        .seed = config.seed},
                                       model->preprocessing()),
                          observer);
  task.plots = !config.noplots;
  task.settings =
      fmt::format("Image sizes {} train, {} {}\nUsing {} dataloader workers", imgsz, imgsz, data.val_name, workers);
  place.project = config.project, place.name = config.name, place.exist_ok = config.exist_ok;
  place.save_options = [&](const std::filesystem::path& folder) {
    run::save_options(config, folder, {&TrainConfig::data, &TrainConfig::weights, &TrainConfig::model});
  };
  LoopOptions loop = loop_options(config, task.batches_per_epoch(), run_device.compute);
  loop.run = run::id_of(config);
  run::RunResult result =
      run::train(device, task, plan, std::move(loop), config.decay, config.frozen_bn, std::move(place), observer);
  const std::string weights = result.weights.string();
  observer.notice(
      fmt::format("Predict:  classify-predict --weights {} --source im.jpg\nValidate: classify-val --weights {} --data {}\n",
                  weights, weights, config.data));
  return result;
}

}  // namespace frost::classify
