#include "models/yolo/training/trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "engine/report/text.h"
#include "engine/tensor/run_device.h"
#include "models/run/option_file.h"
#include "models/run/train.h"
#include "models/slim/explain_command.h"
#include "models/slim/prune.h"
#include "models/slim/training_plan.h"
#include "models/yolo/data/data_config.h"
#include "models/yolo/data/scan.h"
#include "models/yolo/model_io.h"
#include "models/yolo/training/anchors.h"
#include "models/yolo/training/task.h"
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
                                            const DataConfig& data, const std::vector<std::string>& names,
                                            Observer& observer) {
  FROST_CHECK(!config.weights.empty() || !config.cfg.empty(), "either --cfg or --weights must be specified");
  const int classes = static_cast<int>(names.size());
  std::optional<YoloCheckpoint> checkpoint;
  std::filesystem::path file;
  if (!config.weights.empty()) {
    file = find_weights(config.weights, observer);
    checkpoint = load_yolo_checkpoint(file, CheckpointPart::model);
    for (const std::string& warning : checkpoint->warnings) observer.notice(fmt::format("{}\n", warning));
  }
  std::optional<int> anchors_each;
  if (hyp.anchors != 0) anchors_each = static_cast<int>(std::nearbyint(std::clamp(hyp.anchors, -1e6, 1e6)));
  ModelSpec spec =
      config.cfg.empty()
          ? parse_model_yaml(checkpoint->yaml_text, checkpoint->yaml_file.empty() ? file.string() : checkpoint->yaml_file,
                             classes, anchors_each)
          : load_model_spec(config.cfg, classes, anchors_each);
  for (const std::string& warning : spec.warnings) observer.warning(fmt::format("{}\n", warning));
  if (checkpoint && config.cfg.empty() && checkpoint->nc != classes)
    observer.notice(fmt::format("Overriding model.yaml nc={} with nc={}\n", checkpoint->nc, classes));
  if (anchors_each) observer.notice(fmt::format("Overriding model.yaml anchors with anchors={}\n", hyp.anchors));
  if (!spec.activation_text.empty()) observer.notice(fmt::format("{}{}\n", bold_blue("activation: "), spec.activation_text));
  auto model = checkpoint && config.cfg.empty()
                   ? fitted_model(device, std::move(spec), config.seed, *checkpoint, file.string())
                   : std::make_unique<DetectionModel>(device, std::move(spec), config.seed);
  model->names = names;
  observer.notice(fmt::format("{}{}\n\n", model->table(), model->summary(false, true)));
  if (checkpoint) {
    const LoadReport report = load_state(*model, checkpoint->state, [&](const std::string& name) {
      return (!config.cfg.empty() || anchors_each) && name.find("anchor") != std::string::npos;
    });
    observer.notice(fmt::format("Transferred {}/{} items from {}\n", report.copied, report.total, file.string()));
    if (const std::string line = slim::sparsity_line(slim::sparsity(*model)); !line.empty())
      observer.notice(fmt::format("{}: zeros stay zero\n", line));
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
                         DType compute) {
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
          .folder = {},
          .lr_columns = {"x/lr0", "x/lr1", "x/lr2"},
          .csv_width = 20};
}

/// Kept features are of use where pictures do not change from epoch to epoch.
void check_constant_pictures(const TrainConfig& config, const Hyp& hyp) {
  FROST_CHECK(!config.multi_scale, "--cache-features", ": --multi-scale changes the image size from batch to batch");
  std::vector<std::string> keys{"hsv_h", "hsv_s", "hsv_v",       "degrees", "translate",
                                "scale", "shear", "perspective", "flipud",  "fliplr"};
  if (!config.rect) keys.insert(keys.end(), {"mosaic", "mixup", "copy_paste"});
  std::erase_if(keys, [&](const std::string& key) { return hyp.get(key) == 0; });
  FROST_CHECK(keys.empty(), "--cache-features", ": augmentation makes another picture in every epoch; these must be 0 in ",
              config.hyp, ": ", fmt::format("{}", fmt::join(keys, ", ")), " (--hyp no-augmentation has them so)");
}

}  // namespace

std::filesystem::path train(const TrainConfig& config, Observer& observer) {
  return train(config, nullptr, observer).folder;
}

run::RunResult train(const TrainConfig& given, std::unique_ptr<DetectionModel> start, Observer& observer) {
  TrainConfig config = given;
  run::RunPlace place;
  place.folder = run::load_resume(config);
  if (const std::filesystem::path& folder = place.folder; !folder.empty()) {
    if (!given.dry_run) place.lock = run::take_folder(folder, false, observer);
    place.resume = config.resume;
    config.weights = config.resume, config.cfg.clear();
    config.hyp = (folder / "hyp.yaml").string();
    config.dry_run = given.dry_run;
  }
  const RunDevice run_device = start ? RunDevice(start->device(), config.precision)
                                     : RunDevice(config.device, config.precision, {config.deterministic, config.tf32});
  config.precision = name_of(run_device.compute);  // a resumed run continues with the same type
  Device& device = *run_device.device;
  observer.notice(fmt::format("{}{}\n{}\n\n", bold_blue("train: "), run::options_line(config), run_device.line));

  std::vector<std::string> warnings;
  const Hyp hyp = load_hyp(config.hyp, &warnings);
  for (const std::string& warning : warnings) observer.notice(fmt::format("{}\n", warning));
  std::vector<std::string> pairs;
  for (const auto& [key, value] : hyp.items()) pairs.push_back(fmt::format("{}={}", key, value));
  const std::string hyp_values = fmt::format("{}", fmt::join(pairs, ", "));
  observer.notice(fmt::format("{}{}\n", bold_blue("hyperparameters: "), hyp_values));

  const DataConfig data = load_data_config(config.data);
  for (const std::string& warning : data.warnings) observer.warning(fmt::format("{}\n", warning));
  std::vector<std::string> names = data.names;
  if (config.single_cls) names = {names.size() == 1 ? names[0] : "item"};
  FROST_CHECK(!start || hyp.anchors == 0, config.hyp, ": anchors: ", hyp.anchors, ": the model has its own");
  if (start) start->set_classes(names, config.seed);
  const std::unique_ptr<DetectionModel> model =  // it ends before its device
      start ? std::move(start) : build_model(config, hyp, device, data, names, observer);

  slim::Plan plan(*model, slim::plan_flags(config), observer);
  for (const std::string& name : plan.frozen()) observer.notice(fmt::format("freezing {}\n", name));
  observer.notice(fmt::format("{}\n", freeze_summary(*model)));
  for (const std::string& line : plan.rates()) observer.notice(fmt::format("{}\n", line));
  if (!config.cache_features.empty()) check_cacheable(*model, config.frozen_bn), check_constant_pictures(config, hyp);

  const int stride = model->stride();
  int imgsz = std::max((config.imgsz + stride - 1) / stride * stride, 2 * stride);
  if (imgsz != config.imgsz)
    observer.notice(fmt::format("WARNING: --img-size {} must be multiple of max stride {}, updating to {}\n", config.imgsz,
                                stride, imgsz));

  DetectionPlan step{{.compute = run_device.compute,
                      .frozen_bn = config.frozen_bn,
                      .recompute = config.recompute,
                      .cuda_graph = config.cuda_graph,
                      .strict = config.strict,
                      .label_smoothing = static_cast<float>(config.label_smoothing),
                      .seed = config.seed},
                     hyp,
                     imgsz,
                     config.multi_scale,
                     config.single_cls,
                     config.cache_features};
  if (config.dry_run) {
    if (config.multi_scale) {
      imgsz = (imgsz * 3 / 2 + stride - 1) / stride * stride;
      observer.notice(fmt::format("--multi-scale: the largest size counts, {}\n", imgsz));
    }
    NoiseOptions noise{batch_size_for(config, list_images(data.split("train")).size()), imgsz};
    slim::TrainingSetting setting{.batch_size = noise.batch_size,
                                  .imgsz = imgsz,
                                  .compute = run_device.compute,
                                  .optimizer = config.optimizer,
                                  .frozen_bn = config.frozen_bn,
                                  .freeze = plan.begin_last_stage()};
    setting.cache_features = !config.cache_features.empty() && model->frozen_prefix() > 0;
    const auto make = [&](FeatureCache features) {
      noise.features = features;
      return noise_task(step, noise);
    };
    slim::explain_training(*model, setting, device.backend(), make, observer);
    return {};
  }

  LabelSet train_labels = scan_with_progress(data.split("train"), bold_blue("train: "), observer),
           val_labels = scan_with_progress(data.split("val"), bold_blue("val: "), observer);
  if (config.strict) check_not_corrupt(train_labels), check_not_corrupt(val_labels);
  if (!config.single_cls) {
    check_trainable(train_labels, static_cast<int>(names.size()), config.data);
    check_classes(val_labels, static_cast<int>(names.size()), config.data);
  }
  const int batch_size = batch_size_for(config, train_labels.images.size());
  if (config.resume.empty() && !config.noautoanchor)
    auto_anchor(model->detect(), train_labels.images, imgsz, hyp.anchor_t, config.seed,
                [&](const std::string& line) { observer.notice(line + "\n"); });
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
      if (const std::string message = set->cache_images(workers, prefix); !message.empty())
        observer.notice(fmt::format("{}\n", message));
  }

  const double accumulate = std::max(std::nearbyint(static_cast<double>(config.nbs) / batch_size), 1.0);
  const double decay = hyp.weight_decay * batch_size * accumulate / config.nbs;
  const BatchOptions loading{.seed = config.seed, .shuffle = !config.rect, .threads = workers, .run_ahead = true};
  DetectionTask task(device, *model, std::move(step),
                     {make_loader(train_data, loading), make_loader(val_data, {.threads = workers}), train_data, val_data},
                     observer);
  task.workers = workers;
  task.plots = !config.noplots;
  place.project = config.project, place.name = config.name, place.exist_ok = config.exist_ok;
  place.save_options = [&](const std::filesystem::path& folder) {
    write_hyp(folder / "hyp.yaml", hyp);
    run::save_options(config, folder, {&TrainConfig::data, &TrainConfig::cfg, &TrainConfig::weights});
  };
  LoopOptions loop = loop_options(config, hyp, task.batches_per_epoch(), batch_size, run_device.compute);
  loop.run = run::id_of(config, hyp_values);
  return run::train(device, task, plan, std::move(loop), decay, config.frozen_bn, std::move(place), observer);
}

}  // namespace frost::yolo
