#include "models/yolo/trainee.h"

#include <numeric>
#include <optional>

#include "models/yolo/cached_prefix.h"
#include "models/yolo/loss.h"
#include "models/yolo/step.h"
#include "models/yolo/validator.h"

namespace frost::yolo {
namespace {

class DetectionTrainee final : public slim::Trainee {
 public:
  DetectionTrainee(Device& device, std::unique_ptr<DetectionModel> model, const TraineeOptions& options)
      : device_(device),
        model_(std::move(model)),
        options_(options),
        loss_{.gains = {}, .balance = default_balance(model_->detect().levels_count)} {
    batch_.n = options.batch_size;
    batch_.h = batch_.w = options.imgsz;
    batch_.pixels = slim::noise(device.backend(), batch_.bytes());
    batch_.indices.resize(static_cast<std::size_t>(batch_.n));
    std::iota(batch_.indices.begin(), batch_.indices.end(), 0);
    Rng rng(0);
    for (int i = 0; i < options.batch_size * options.boxes_each; ++i) {
      const double cls = std::floor(rng.uniform(0, model_->detect().classes));
      for (const double value : {static_cast<double>(i / options.boxes_each), cls, rng.uniform(0.2, 0.8),
                                 rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4)})
        batch_.targets.push_back(static_cast<float>(value));
    }
  }

  Module& model() override { return *model_; }
  std::vector<Row> rows() override {
    std::vector<Row> rows;
    for (const DetectionModel::Row& row : model_->rows()) {
      const std::string name = "model." + std::to_string(row.index);
      rows.push_back({name, row.type.substr(row.type.rfind('.') + 1), {name + "."}});
    }
    return rows;
  }
  void step() override {
    train_step({.device = device_, .frozen_bn = options_.frozen_bn, .compute = options_.compute}, *model_, input(),
               batch_.targets, loss_, options_.recompute);
  }
  std::int64_t kept_each() const override { return kept_each_; }
  void validate() override {
    // Twice the batch, at the most that padding half a stride can make of a picture; the loss is taken too.
    const std::int64_t side = options_.imgsz + model_->stride();
    DetectionBatch batch;
    batch.n = 2 * batch_.n;
    batch.h = batch.w = side;
    batch.pixels = slim::noise(device_.backend(), batch.bytes());
    const Tensor input = network_input(device_, batch, options_.compute);
    Context context{.device = device_, .compute = options_.compute};
    const std::vector<Var> maps = model_->heads(context, {input, -1, nullptr});
    detection_loss(device_, *model_, maps, batch_.targets, loss_);
  }

 private:
  PrefixOutput input() {
    if (options_.features == slim::FeatureCache::off || model_->frozen_prefix() == 0)
      return {0, {network_input(device_, batch_, options_.compute)}};
    if (!features_) {
      features_.emplace(device_, *model_, options_.compute, "");
      features_->of(batch_);
      kept_each_ = features_->bytes() / batch_.n;
      features_->of(batch_);  // the first batch that is found there is computed again, as a check
    }
    if (options_.features == slim::FeatureCache::filling)
      for (std::int64_t& image : batch_.indices) image += batch_.n;
    return features_->of(batch_);
  }

  Device& device_;
  std::unique_ptr<DetectionModel> model_;
  TraineeOptions options_;
  std::optional<CachedPrefix> features_;  // of the first step on
  std::int64_t kept_each_ = 0;
  LossSettings loss_;
  DetectionBatch batch_;
};

}  // namespace

slim::BuildTrainee detection_trainee(MakeModel make, std::function<void(DetectionModel&)> freeze,
                                     const TraineeOptions& options) {
  return [make = std::move(make), freeze = std::move(freeze), options](Device& device) -> std::unique_ptr<slim::Trainee> {
    std::unique_ptr<DetectionModel> model = make(device);
    freeze(*model);
    return std::make_unique<DetectionTrainee>(device, std::move(model), options);
  };
}

}  // namespace frost::yolo
