#include "models/yolo/trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "engine/report/run_folder.h"
#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/run/option_file.h"
#include "models/run/training.h"
#include "models/slim/plan.h"
#include "models/slim/prune.h"
#include "models/yolo/anchors.h"
#include "models/yolo/data_config.h"
#include "models/yolo/explain_run.h"
#include "models/yolo/model_io.h"
#include "models/yolo/pictures.h"
#include "models/yolo/results.h"
#include "models/yolo/scan.h"
#include "models/yolo/task.h"
#include "models/yolo/validator.h"
#include "models/zoo/weights.h"

namespace frost::yolo {
namespace {

AugmentParams augmentation(const Hyp& h) {
  return {.hsv_h = h.hsv_h,
          .hsv_s = h.hsv_s,
          .hsv_v = h.hsv_v,
          .degrees = h.degrees,
          .translate = h.translate,
          .scale = h.scale,
          .shear = h.shear,
          .perspective = h.perspective,
          .flipud = h.flipud,
          .fliplr = h.fliplr,
          .mosaic = h.mosaic,
          .mixup = h.mixup,
          .copy_paste = h.copy_paste};
}

std::unique_ptr<DetectionModel> build_model(const TrainConfig& config, const Hyp& hyp, Device& device,
                                            const DataConfig& data, const std::vector<std::string>& names) {
  FROST_CHECK(!config.weights.empty() || !config.cfg.empty(), "either --cfg or --weights must be specified");
  const int classes = static_cast<int>(names.size());
  std::optional<YoloCheckpoint> checkpoint;
  std::filesystem::path file;
  if (!config.weights.empty()) {
    file = find_weights(config.weights);
    checkpoint = load_yolo_checkpoint(file, CheckpointPart::model);
    for (const std::string& warning : checkpoint->warnings) fmt::print("{}\n", warning);
  }
  std::optional<int> anchors_each;
  if (hyp.anchors != 0) anchors_each = static_cast<int>(std::nearbyint(std::clamp(hyp.anchors, -1e6, 1e6)));
  ModelSpec spec =
      config.cfg.empty()
          ? parse_model_yaml(checkpoint->yaml_text, checkpoint->yaml_file.empty() ? file.string() : checkpoint->yaml_file,
                             classes, anchors_each)
          : load_model_spec(config.cfg, classes, anchors_each);
  for (const std::string& warning : spec.warnings) fmt::print(stderr, "{}\n", warning);
  if (checkpoint && config.cfg.empty() && checkpoint->nc != classes)
    fmt::print("Overriding model.yaml nc={} with nc={}\n", checkpoint->nc, classes);
  if (anchors_each) fmt::print("Overriding model.yaml anchors with anchors={}\n", hyp.anchors);
  if (!spec.activation_text.empty()) fmt::print("{}{}\n", bold_blue("activation: "), spec.activation_text);
  auto model = checkpoint && config.cfg.empty()
                   ? fitted_model(device, std::move(spec), config.seed, *checkpoint, file.string())
                   : std::make_unique<DetectionModel>(device, std::move(spec), config.seed);
  model->names = names;
  fmt::print("{}{}\n\n", model->table(), model->summary(false, true));
  if (checkpoint) {
    const LoadReport report = load_state(*model, checkpoint->state, [&](const std::string& name) {
      return (!config.cfg.empty() || anchors_each) && name.find("anchor") != std::string::npos;
    });
    fmt::print("Transferred {}/{} items from {}\n", report.copied, report.total, file.string());
    if (const std::string line = slim::sparsity_line(slim::sparsity(*model)); !line.empty())
      fmt::print("{}: zeros stay zero\n", line);
    FROST_CHECK(report.copied > 0, file.string(), ": none of its tensors fits this model (", data.yaml, ", ", config.cfg,
                ")");
  }
  return model;
}

/// No batch is larger than the data set.
int batch_size_for(const TrainConfig& config, std::size_t images) {
  return static_cast<int>(std::min(static_cast<std::size_t>(config.batch_size), images));
}

LoopOptions loop_options(const TrainConfig& config, const Hyp& hyp, std::int64_t batches_per_epoch, int batch_size,
                         const std::filesystem::path& folder, DType compute) {
  return {.schedule = {.lr0 = hyp.lr0,
                       .lrf = hyp.lrf,
                       .momentum = hyp.momentum,
                       .warmup_momentum = hyp.warmup_momentum,
                       .warmup_bias_lr = hyp.warmup_bias_lr,
                       .warmup_epochs = hyp.warmup_epochs,
                       .warm_momentum = config.optimizer == OptimizerKind::sgd,
                       .cosine = config.cos_lr,
                       .epochs = config.epochs,
                       .batches_per_epoch = batches_per_epoch,
                       .batch_size = batch_size,
                       .nominal_batch = config.nbs},
          .optimizer = config.optimizer,
          .loss_scaling = compute == DType::f16,
          .cuda_graph = config.cuda_graph,
          .patience = config.patience,
          .save_period = config.save_period,
          .nosave = config.nosave,
          .noval = config.noval,
          .folder = folder};
}

/// Judges the finished run's checkpoint, folded, class by class, with pictures.
void validate_result(const TrainConfig& config, const RunDevice& run, DetectionTask& task,
                     const std::filesystem::path& weights, const std::vector<std::string>& names,
                     const std::filesystem::path& folder) {
  fmt::print("\nValidating {}...\nFusing layers... \n", weights.string());
  const std::unique_ptr<DetectionModel> model = load_model(*run.device, weights);
  fmt::print("{}\n", model->summary(true, false));
  ValidateOptions options{
      .single_cls = config.single_cls, .compute = run.compute, .cuda_graph = config.cuda_graph, .loss = task.loss()};
  if (!config.noplots) options.batch_done = validation_sheets(folder, names);
  const ValidationResult result = validate(*run.device, *model, task.val_loader(), options);
  fmt::print("{}", metrics_table(result.summary, names, names.size() > 1));
}

}  // namespace

std::filesystem::path train(const TrainConfig& given) {
  TrainConfig config = given;
  std::filesystem::path folder = run::take_up(config);
  std::unique_ptr<RunLock> lock;  // of the folder, as long as this runs
  if (!folder.empty()) {
    if (!given.dry_run) lock = run::take_folder(folder, false);
    config.weights = config.resume, config.cfg.clear();
    config.hyp = (folder / "hyp.yaml").string();
    config.dry_run = given.dry_run;
  }
  const RunDevice run_device(config.device, config.precision, {config.deterministic, config.tf32});
  config.precision = name_of(run_device.compute);  // a resumed run goes on as it began
  Device& device = *run_device.device;
  fmt::print("{}{}\n{}\n\n", bold_blue("train: "), run::options_line(config), run_device.line);

  std::vector<std::string> warnings;
  const Hyp hyp = load_hyp(config.hyp, &warnings);
  for (const std::string& warning : warnings) fmt::print("{}\n", warning);
  std::vector<std::string> pairs;
  for (const auto& [key, value] : hyp.items()) pairs.push_back(fmt::format("{}={}", key, value));
  fmt::print("{}{}\n", bold_blue("hyperparameters: "), fmt::join(pairs, ", "));

  const DataConfig data = load_data_config(config.data);
  for (const std::string& warning : data.warnings) fmt::print(stderr, "{}\n", warning);
  std::vector<std::string> names = data.names;
  if (config.single_cls) names = {names.size() == 1 ? names[0] : "item"};
  std::unique_ptr<DetectionModel> model = build_model(config, hyp, device, data, names);

  slim::Plan plan(*model, model->layers(), slim::plan_flags(config));
  for (const std::string& name : plan.frozen()) fmt::print("freezing {}\n", name);
  fmt::print("{}\n", freeze_summary(*model));
  for (const std::string& line : plan.rates()) fmt::print("{}\n", line);
  if (!config.cache_features.empty()) check_cacheable(config, hyp, *model);

  const int stride = model->stride();
  int imgsz = std::max((config.imgsz + stride - 1) / stride * stride, 2 * stride);
  if (imgsz != config.imgsz)
    fmt::print("WARNING: --img-size {} must be multiple of max stride {}, updating to {}\n", config.imgsz, stride, imgsz);

  if (config.dry_run) {
    config.batch_size = batch_size_for(config, list_images(data.split("train")).size());
    config.freeze = plan.begin_last_stage();
    explain_training(config, *model, imgsz, run_device);
    return {};
  }

  LabelSet train_labels = scan_with_progress(data.split("train"), bold_blue("train: ")),
           val_labels = scan_with_progress(data.split("val"), bold_blue("val: "));
  if (config.strict) check_undamaged(train_labels), check_undamaged(val_labels);
  if (!config.single_cls) {
    check_trainable(train_labels, static_cast<int>(names.size()), config.data);
    check_classes(val_labels, static_cast<int>(names.size()), config.data);
  }
  const int batch_size = batch_size_for(config, train_labels.images.size());
  if (config.resume.empty() && !config.noautoanchor)
    auto_anchor(model->detect(), train_labels.images, imgsz, hyp.anchor_t, config.seed, [](const std::string& line) {
      fmt::print("{}\n", line);
      std::fflush(stdout);
    });
  const int workers = worker_count(config.workers, batch_size);
  const DatasetOptions train_options{.imgsz = imgsz,
                                     .batch_size = batch_size,
                                     .stride = stride,
                                     .pad = 0,
                                     .augment = true,
                                     .rect = config.rect,
                                     .single_cls = config.single_cls,
                                     .hyp = augmentation(hyp)};
  const DatasetOptions val_options{.imgsz = imgsz,
                                   .batch_size = batch_size * 2,
                                   .stride = stride,
                                   .pad = 0.5,
                                   .augment = false,
                                   .rect = true,
                                   .single_cls = config.single_cls};
  const auto train_data = std::make_shared<DetectionDataset>(std::move(train_labels), train_options);
  const auto val_data = std::make_shared<DetectionDataset>(std::move(val_labels), val_options);
  if (!config.cache.empty()) {
    for (const auto& [set, prefix] : {std::pair{train_data, bold_blue("train: ")}, std::pair{val_data, bold_blue("val: ")}})
      if (const std::string message = set->cache_images(workers, prefix); !message.empty()) fmt::print("{}\n", message);
  }

  // The arena takes the parameters' memory over: everything that copies the model comes after it.
  const double accumulate = std::max(std::nearbyint(static_cast<double>(config.nbs) / batch_size), 1.0);
  const double decay = hyp.weight_decay * batch_size * accumulate / config.nbs;
  ParameterArena arena(device, *model, static_cast<float>(decay), true);
  fmt::print("{}\n", run::optimizer_line(arena, config.optimizer, hyp.lr0, decay));
  ModelAverage average(device, *model, arena, moving_statistics(*model, config.frozen_bn));
  DetectionModel twin(device, model->spec(), config.seed, widths_of(*model));
  twin.names = names;

  DetectionTask task(config, device, *model, run_device.compute, hyp, imgsz);
  task.give_data(
      make_loader(train_data, {.seed = config.seed, .shuffle = !config.rect, .threads = workers, .run_ahead = true}),
      train_data, make_loader(val_data, {.threads = workers}), val_data);
  if (folder.empty()) {
    run::check_start(*model);
    folder = make_run_folder(config.project, config.name, config.exist_ok);
    lock = run::take_folder(folder, true);
  }
  if (!config.noplots) task.pictures(folder);
  if (config.resume.empty()) {
    write_hyp(folder / "hyp.yaml", hyp);
    run::keep_options(config, folder, {&TrainConfig::data, &TrainConfig::cfg, &TrainConfig::weights});
  }

  const auto keep_features = [&] {
    if (!config.cache_features.empty()) task.cache_features(config.cache_features == "disk" ? folder : "");
  };
  keep_features();
  LoopOptions options = loop_options(config, hyp, task.batches_per_epoch(), batch_size, folder, run_device.compute);
  options.run = run::id_of(config);
  plan.steer(options, arena, [&] {
    task.forget_steps();
    keep_features();
  });
  TrainingLoop loop(device, *model, twin, arena, average, task, std::move(options));
  if (!config.resume.empty()) run::go_on(loop, config.resume, config.epochs);
  fmt::print(
      "Image sizes {} train, {} val\nUsing {} dataloader workers\nLogging results to {}\nStarting training for {} "
      "epochs...\n",
      imgsz, imgsz, workers, bold(folder.string()), config.epochs);
  std::fflush(stdout);
  const std::int64_t earlier_steps = loop.summary().steps;  // before a resumption
  loop.run();
  task.check_faults();

  run::print_costs(loop, *model, train_data->size());
  if (!config.cache_features.empty()) {
    std::string now = "nothing is frozen any more";
    if (const CachedPrefix* features = task.features())
      now = fmt::format("layers 0 to {}, {:.1f} MB ({})", features->cut() - 1, static_cast<double>(features->bytes()) / 1e6,
                        config.cache_features);
    fmt::print("kept features: {}; {} of {} batches came from there\n", now, task.cached_batches(),
               loop.summary().steps - earlier_steps);
  }
  validate_result(config, run_device, task, loop.result(), names, folder);
  task.check_faults();
  loop.finish();
  fmt::print("Results saved to {}\n", bold(folder.string()));
  std::fflush(stdout);
  return folder;
}

}  // namespace frost::yolo
