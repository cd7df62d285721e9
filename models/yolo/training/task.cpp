#include "models/yolo/training/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/report/text.h"
#include "models/yolo/evaluation/image_grids.h"
#include "models/yolo/evaluation/results.h"
#include "models/yolo/evaluation/validator.h"
#include "models/yolo/model_io.h"
#include "models/yolo/training/loss.h"

namespace frost::yolo {

DetectionTask::DetectionTask(Device& device, DetectionModel& model, DetectionPlan plan, DetectionBatches data,
                             Observer& observer)
    : device_(device),
      model_(model),
      plan_(std::move(plan)),
      data_(std::move(data)),
      observer_(observer),
      loss_{.gains = scaled_gains(plan_.hyp, model.detect().levels_count, model.detect().classes, plan_.imgsz,
                                  plan_.label_smoothing),
            .balance = default_balance(model.detect().levels_count)},
      work_(device, &model, plan_.cuda_graph),
      faults_(plan_.strict, observer) {}

void DetectionTask::begin_run(const std::filesystem::path& folder) {
  folder_ = folder;
  cache_features();
}

std::string DetectionTask::opening(const std::filesystem::path& folder, int epochs) const {
  return fmt::format(
      "Image sizes {} train, {} val\nUsing {} dataloader workers\nLogging results to {}\nStarting training for {} "
      "epochs...\n",
      plan_.imgsz, plan_.imgsz, workers, bold(folder.string()), epochs);
}

std::string DetectionTask::table_header(std::int64_t) {
  std::string header = fmt::format("\n{:>11}{:>11}", "Epoch", "Memory");
  for (const std::string& name : loss_names()) header += fmt::format("{:>11}", name);
  return header + fmt::format("{:>11}{:>11}", "Instances", "Size");
}

std::string DetectionTask::table_row(const EpochProgress& p) {
  std::string row =
      fmt::format("{:>11}{:>11}", fmt::format("{}/{}", p.epoch, p.epochs - 1), fmt::format("{:.3g}G", p.gigabytes));
  for (const double loss : p.losses) row += fmt::format("{:>11.4g}", loss);
  return row + fmt::format("{:>11}{:>11}", p.instances, p.size);
}

void DetectionTask::cache_features() {
  if (plan_.cache_features.empty()) return;
  earlier_hits_ = cached_batches();
  features_.reset();
  first_epoch_ = -1;
  if (model_.frozen_prefix() > 0)
    features_ = std::make_unique<CachedPrefix>(device_, model_, plan_.compute, plan_.cache_features == "disk" ? folder_ : "",
                                               observer_);
}

void DetectionTask::unfrozen() {
  work_.forget();
  cache_features();
}

void DetectionTask::check_faults() {
  faults_.of_validation(data_.val_set->take_warnings());
  faults_.check();
}

std::string DetectionTask::closing(std::int64_t steps) const {
  if (plan_.cache_features.empty()) return "";
  std::string now = "nothing is frozen any more";
  if (features_)
    now = fmt::format("layers 0 to {}, {:.1f} MB ({})", features_->cut() - 1, static_cast<double>(features_->bytes()) / 1e6,
                      plan_.cache_features);
  return fmt::format("kept features: {}; {} of {} batches came from there\n", now, cached_batches(), steps);
}

void DetectionTask::judge(const std::filesystem::path& weights, const std::filesystem::path& folder) {
  observer_.notice(fmt::format("\nValidating {}...\nFusing layers... \n", weights.string()));
  const std::unique_ptr<DetectionModel> model = load_model(device_, weights);
  observer_.notice(fmt::format("{}\n", model->summary(true, false)));
  ValidateOptions options{.single_cls = plan_.single_cls,
                          .compute = plan_.compute,
                          .cuda_graph = plan_.cuda_graph,
                          .loss = loss_,
                          .observer = observer_};
  if (plots) options.batch_done = validation_grids(folder, model_.names);
  const ValidationResult result = yolo::validate(device_, *model, *data_.val, options);
  observer_.notice(metrics_table(result.summary, model_.names, model_.names.size() > 1));
}

void DetectionTask::begin_epoch(std::int64_t epoch) {
  faults_.check();
  // Nothing that an earlier epoch kept adds to this one's peak, which is the same in a resumed run. Captured graphs need it.
  if (!work_.captures()) losses_.clear(), pixels_.clear();
  epoch_ = epoch;
  if (first_epoch_ < 0) first_epoch_ = epoch;
  batch_ = 0;
  data_.train->start(epoch);
}

BatchReport DetectionTask::train_batch() {
  DetectionBatch* batch = data_.train->next();
  FROST_CHECK(batch, "the data ended before the epoch");
  if (data_.train_set) faults_.of_training(data_.train_set->take_warnings());
  if (plots && epoch_ == 0 && batch_ < 3)
    write_training_grid(folder_ / fmt::format("train_batch{}.jpg", batch_), *batch, model_.names);
  const Shape given{batch->n, batch->h, batch->w, 3}, used = plan_.multi_scale ? rescaled(given) : given;
  std::int64_t capacity = 64;  // of targets: few sizes, so that few steps are captured
  while (capacity < batch->target_count()) capacity *= 2;
  const CapturedStep::Key key{given.n, given.h, given.w, used.h, used.w, capacity};
  LossState& loss = losses_.try_emplace(key, device_, loss_, capacity).first->second;
  loss.grad_scale = loss_scale_;
  loss.set_targets(batch->targets, batch->n, model_.detect().classes);
  // Cached features are in other memory for each batch, so this cannot be captured.
  PrefixOutput features;
  Tensor pixels, input;
  if (features_) {
    features = features_->of(*batch);
    check_room(*batch);
  } else if (work_.will_capture(key)) {
    pixels = uploaded(*batch, given);
  } else {
    input = network_input(device_, *batch, plan_.compute);
  }
  const auto step = [&] {
    PrefixOutput from = features;
    if (!features_) {
      Tensor x = pixels ? normalised(device_, pixels, plan_.compute) : input;
      if (used != given) {
        Tensor resized(device_, used, x.dtype(), Role::input);
        device_.backend().resize_forward({.mode = ResizeMode::bilinear, .x = x, .y = resized});
        x = resized;
      }
      from.values.push_back(std::move(x));
    }
    train_step({.device = device_, .frozen_bn = plan_.frozen_bn, .compute = plan_.compute}, model_, from, loss,
               plan_.recompute);
  };
  if (features_)
    step();
  else
    work_.run(key, step);
  ++batch_;
  return {.instances = batch->target_count(), .size = used.w, .device_losses = loss.items()};
}

ValidationReport DetectionTask::validate(Module& ema_model, std::int64_t, bool) {
  const ValidateOptions options{.single_cls = plan_.single_cls,
                                .compute = plan_.compute,
                                .cuda_graph = plan_.cuda_graph,
                                .loss = loss_,
                                .observer = observer_};
  const ValidationResult result = yolo::validate(device_, dynamic_cast<DetectionModel&>(ema_model), *data_.val, options);
  if (data_.val_set) faults_.of_validation(data_.val_set->take_warnings());
  const DetectionSummary& s = result.summary;
  observer_.notice(metrics_table(s, model_.names, false));
  return {{s.precision, s.recall, s.map50, s.map50_95, result.losses[0], result.losses[1], result.losses[2]}, s.fitness()};
}

Metadata DetectionTask::metadata() const {
  const auto items = plan_.hyp.items();
  Metadata about = model_.metadata();
  about[checkpoint_key::hyp] = nlohmann::json(std::map<std::string, double>(items.begin(), items.end())).dump();
  return about;
}

Shape DetectionTask::rescaled(const Shape& s) const {
  constexpr std::uint64_t kSizeStream = 0x6d756c7469736361;  // apart from the samples' streams
  Rng rng(plan_.seed ^ kSizeStream, static_cast<std::uint64_t>(epoch_), static_cast<std::uint64_t>(batch_));
  const int stride = model_.stride();
  const std::int64_t side =
      static_cast<std::int64_t>(rng.uniform(0.5 * plan_.imgsz, 1.5 * plan_.imgsz + stride)) / stride * stride;
  const double factor = static_cast<double>(side) / static_cast<double>(std::max(s.h, s.w));
  const auto fit = [&](std::int64_t size) {
    return static_cast<std::int64_t>(std::ceil(static_cast<double>(size) * factor / stride)) * stride;
  };
  if (factor == 1.0) return s;
  return {s.n, std::max<std::int64_t>(fit(s.h), stride), std::max<std::int64_t>(fit(s.w), stride), s.c};
}

Tensor DetectionTask::uploaded(const DetectionBatch& batch, const Shape& shape) {
  Tensor& pixels = pixels_[shape];
  if (!pixels) pixels = Tensor(device_, shape, DType::u8, Role::input);
  device_.backend().upload(pixels.data(), batch.pixels.data(), batch.bytes());
  return pixels;
}

void DetectionTask::check_room(const DetectionBatch& batch) const {
  if (!data_.train_set || features_->bytes() == 0 || epoch_ != first_epoch_ || batch_ != 0 || plan_.cache_features != "ram")
    return;
  const double needed = static_cast<double>(features_->bytes()) / static_cast<double>(batch.n) *
                        static_cast<double>(data_.train_set->size()),
               room = host_memory().available;
  FROST_CHECK(needed < room, "--cache-features ram: ", fmt::format("{:.1f}", needed / 1e9), " GB needed, ",
              fmt::format("{:.1f}", room / 1e9), " GB available; --cache-features disk keeps them in the run's folder");
}

DetectionBatches noise_batches(const Backend& backend, const DetectionModel& model, const NoiseOptions& options) {
  struct Size {
    std::int64_t n, side;
  };
  const auto loader = [&](const Size& size, std::int64_t batches, bool other_images) {
    constexpr std::int64_t kBoxesEach = 7;  // COCO's mean
    std::vector<float> targets;
    Rng rng(0);
    for (std::int64_t i = 0; i < options.batch_size * kBoxesEach; ++i) {
      const double cls = std::floor(rng.uniform(0, model.classes()));
      for (const double value : {static_cast<double>(i / kBoxesEach), cls, rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8),
                                 rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4)})
        targets.push_back(static_cast<float>(value));
    }
    const auto open = [=, &backend](DetectionBatch& b, std::int64_t, std::int64_t place) -> std::int64_t {
      b.n = size.n, b.h = b.w = size.side;
      if (b.indices.empty()) {
        b.pixels = noise(backend, b.bytes());
        b.targets = targets;
        b.indices.resize(static_cast<std::size_t>(b.n));
        b.infos.resize(static_cast<std::size_t>(b.n), {static_cast<int>(b.h), static_cast<int>(b.w)});
        b.paths.resize(static_cast<std::size_t>(b.n));
      }
      std::iota(b.indices.begin(), b.indices.end(), other_images ? place * b.n : 0);
      return 0;
    };
    return std::make_unique<DetectionLoader>(
        BatchSource<DetectionBatch>{.batches = batches, .open = open, .item = {}, .close = {}});
  };
  constexpr std::int64_t kEndless = std::int64_t{1} << 30;
  return {.train = loader({options.batch_size, options.imgsz}, kEndless, options.features == FeatureCache::filling),
          .val = loader({2 * options.batch_size, options.imgsz + model.stride()}, 1, false),
          .train_set = {},
          .val_set = {}};
}

MakeTask noise_task(const DetectionPlan& plan, const NoiseOptions& options) {
  return [plan, options](Device& device, Model& model) -> std::unique_ptr<Task> {
    auto& detector = dynamic_cast<DetectionModel&>(model);
    DetectionPlan of = plan;
    of.multi_scale = false;  // the noise has the size that counts
    of.cache_features = options.features == FeatureCache::off ? "" : "ram";
    auto task =
        std::make_unique<DetectionTask>(device, detector, std::move(of), noise_batches(device.backend(), detector, options));
    task->begin_run("");
    return task;
  };
}

}  // namespace frost::yolo
