#include "models/yolo/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "models/yolo/loss.h"
#include "models/yolo/model_io.h"
#include "models/yolo/pictures.h"
#include "models/yolo/results.h"
#include "models/yolo/validator.h"

namespace frost::yolo {

DetectionTask::DetectionTask(const TrainConfig& config, Device& device, DetectionModel& model, DType compute, const Hyp& hyp,
                             int imgsz)
    : config_(config),
      device_(device),
      model_(model),
      compute_(compute),
      hyp_(hyp),
      imgsz_(imgsz),
      loss_{.gains = scaled_gains(hyp, model.detect().levels_count, model.detect().classes, imgsz,
                                  static_cast<float>(config.label_smoothing)),
            .balance = default_balance(model.detect().levels_count)},
      work_(device, &model, config.cuda_graph),
      faults_(config.strict) {}

void DetectionTask::give_data(std::unique_ptr<DetectionLoader> train, std::shared_ptr<DetectionDataset> train_data,
                              std::unique_ptr<DetectionLoader> val, std::shared_ptr<DetectionDataset> val_data) {
  train_ = std::move(train);
  train_data_ = std::move(train_data);
  val_ = std::move(val);
  val_data_ = std::move(val_data);
}

void DetectionTask::cache_features(const std::filesystem::path& folder) {
  earlier_hits_ = cached_batches();
  features_.reset();
  first_epoch_ = -1;
  if (model_.frozen_prefix() > 0) features_ = std::make_unique<CachedPrefix>(device_, model_, compute_, folder);
}

void DetectionTask::begin_epoch(std::int64_t epoch) {
  faults_.check();
  // Nothing that an earlier epoch kept adds to this one's peak, which is the same in a resumed run. Recordings need it.
  if (!work_.captures()) losses_.clear(), pixels_.clear();
  epoch_ = epoch;
  if (first_epoch_ < 0) first_epoch_ = epoch;
  batch_ = 0;
  train_->start(epoch);
}

BatchReport DetectionTask::train_batch() {
  DetectionBatch* batch = train_->next();
  FROST_CHECK(batch, "the data ended before the epoch");
  faults_.of_training(train_data_->take_warnings());
  if (!folder_.empty() && epoch_ == 0 && batch_ < 3)
    write_training_sheet(folder_ / fmt::format("train_batch{}.jpg", batch_), *batch, model_.names);
  const Shape given{batch->n, batch->h, batch->w, 3}, used = config_.multi_scale ? rescaled(given) : given;
  std::int64_t capacity = 64;  // of targets: few sizes, so that few steps are captured
  while (capacity < batch->target_count()) capacity *= 2;
  const CapturedStep::Key key{given.n, given.h, given.w, used.h, used.w, capacity};
  LossState& loss = losses_.try_emplace(key, device_, loss_, capacity).first->second;
  loss.grad_scale = loss_scale_;
  loss.set_targets(batch->targets, batch->n, model_.detect().classes);
  // What was computed before lies in other memory for each batch: nothing to capture.
  PrefixOutput features;
  Tensor pixels, input;
  if (features_) {
    features = features_->of(*batch);
    check_room(*batch);
  } else if (work_.records(key)) {
    pixels = uploaded(*batch, given);
  } else {
    input = network_input(device_, *batch, compute_);
  }
  const auto step = [&] {
    PrefixOutput from = features;
    if (!features_) {
      Tensor x = pixels ? normalised(device_, pixels, compute_) : input;
      if (used != given) {
        Tensor resized(device_, used, x.dtype(), Role::input);
        device_.backend().resize_forward({.mode = ResizeMode::bilinear, .x = x, .y = resized});
        x = resized;
      }
      from.values.push_back(std::move(x));
    }
    train_step({.device = device_, .frozen_bn = config_.frozen_bn, .compute = compute_}, model_, from, loss,
               config_.recompute);
  };
  if (features_)
    step();
  else
    work_.run(key, step);
  ++batch_;
  return {.instances = batch->target_count(), .size = used.w, .device_losses = loss.items()};
}

ValidationReport DetectionTask::validate(Module& averaged, std::int64_t, bool) {
  ValidateOptions options{
      .single_cls = config_.single_cls, .compute = compute_, .cuda_graph = config_.cuda_graph, .loss = loss_};
  const ValidationResult result = yolo::validate(device_, dynamic_cast<DetectionModel&>(averaged), *val_, options);
  faults_.of_validation(val_data_->take_warnings());
  const DetectionSummary& s = result.summary;
  fmt::print("{}", metrics_table(s, model_.names, false));
  std::fflush(stdout);
  return {{s.precision, s.recall, s.map50, s.map50_95, result.losses[0], result.losses[1], result.losses[2]}, s.fitness()};
}

Metadata DetectionTask::metadata() const {
  const auto items = hyp_.items();
  Metadata about = model_.metadata();
  about[checkpoint_key::hyp] = nlohmann::json(std::map<std::string, double>(items.begin(), items.end())).dump();
  return about;
}

Shape DetectionTask::rescaled(const Shape& s) const {
  constexpr std::uint64_t kSizeStream = 0x6d756c7469736361;  // apart from the samples' streams
  Rng rng(config_.seed ^ kSizeStream, static_cast<std::uint64_t>(epoch_), static_cast<std::uint64_t>(batch_));
  const int stride = model_.stride();
  const std::int64_t side = static_cast<std::int64_t>(rng.uniform(0.5 * imgsz_, 1.5 * imgsz_ + stride)) / stride * stride;
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
  if (features_->bytes() == 0 || epoch_ != first_epoch_ || batch_ != 0 || config_.cache_features != "ram") return;
  const double needed = static_cast<double>(features_->bytes()) / static_cast<double>(batch.n) *
                        static_cast<double>(train_data_->size()),
               room = host_memory().available;
  FROST_CHECK(needed < room, "--cache-features ram: ", fmt::format("{:.1f}", needed / 1e9), " GB needed, ",
              fmt::format("{:.1f}", room / 1e9), " GB available; --cache-features disk keeps them in the run's folder");
}

}  // namespace frost::yolo
