#pragma once
#include <array>
#include <cstdint>

namespace frost {

/// Learning rates, momentum and accumulation of YOLOv5's training (docs/spec/train.md section 6).
struct ScheduleConfig {
  double lr0 = 0.01, lrf = 0.01;
  double momentum = 0.937, warmup_momentum = 0.8, warmup_bias_lr = 0.1, warmup_epochs = 3;
  bool warm_momentum = true;  // false: momentum stays (Adam's beta1 has no warm-up)
  bool cosine = false;
  bool lag = true;  // YOLOv5's detector: after the warm-up the learning rate is one epoch behind; its classifier: never
  std::int64_t epochs = 100, batches_per_epoch = 1, batch_size = 16, nominal_batch = 64;
  std::int64_t minimum_warmup = 100;  // batches; 0, with no warm-up epochs: none
};

class Schedule {
 public:
  explicit Schedule(const ScheduleConfig& config);

  struct Step {
    std::array<double, 3> lr;  // biases, decayed weights, norm weights
    double momentum;
    std::int64_t accumulate;
  };
  /// For batch `batch` of epoch `epoch` (both from 0). Call for every batch in order: the accumulation keeps its last value
  /// after warm-up.
  Step at(std::int64_t epoch, std::int64_t batch);
  double factor(double epoch) const;  // lf: linear or cosine
  std::int64_t warmup_batches() const { return warmup_; }

 private:
  ScheduleConfig config_;
  std::int64_t warmup_, accumulate_;
};

}  // namespace frost
