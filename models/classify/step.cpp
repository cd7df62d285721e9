#include "models/classify/step.h"

namespace frost::classify {

LossState::LossState(Device& device, std::int64_t rows, float label_smoothing)
    : labels_(device, {1, 1, 1, rows}, DType::i64, Role::input),
      seed_(Tensor::zeros(device, {1, 1, 1, 1}, DType::i64, Role::input)),
      loss_(device, {1, 1, 1, 1}, DType::f32, Role::workspace),
      label_smoothing_(label_smoothing) {}

void LossState::set_labels(const std::vector<std::int64_t>& labels) {
  FROST_CHECK(labels_.elements() == static_cast<std::int64_t>(labels.size()), "cross entropy: ", labels.size(),
              " labels for ", labels_.elements(), " rows of logits");
  labels_.backend().upload(labels_.data(), labels.data(), labels.size() * sizeof(std::int64_t));
}
void LossState::set_seed(std::uint64_t seed) { seed_.backend().upload(seed_.data(), &seed, sizeof(seed)); }

void LossState::run(const Tensor& logits, Tensor* gradient) {
  const Shape& s = logits.shape();
  FROST_CHECK(s.n == labels_.elements(), "cross entropy: ", s.n, " rows of logits, there is room for ", labels_.elements());
  loss_.backend().cross_entropy({.logits = logits.f32(),
                                 .labels = static_cast<const std::int64_t*>(labels_.data()),
                                 .rows = s.n,
                                 .classes = s.c,
                                 .label_smoothing = label_smoothing_,
                                 .loss = loss_.f32(),
                                 .dlogits = gradient ? gradient->f32() : nullptr,
                                 .grad_scale = grad_scale ? grad_scale.f32() : nullptr});
}

float cross_entropy(Device& device, const Tensor& logits, const std::vector<std::int64_t>& labels, float label_smoothing) {
  LossState loss(device, logits.shape().n, label_smoothing);
  loss.set_labels(labels);
  loss.run(logits, nullptr);
  return loss.value().to_vector()[0];
}

void train_step(Context context, Classifier& model, const Tensor& images, LossState& loss, bool recompute, bool training) {
  Tape tape(recompute);
  context.tape = &tape;
  context.training = training;
  context.seed = loss.seed();
  Var y = model.forward(context, {images, -1, nullptr});
  if (!y.needs_grad()) return loss.run(y.value, nullptr);  // nothing is trainable
  Tensor gradient(context.device, y.shape());
  loss.run(y.value, &gradient);
  const int slot = y.slot;
  y = Var();
  std::vector<std::pair<int, Tensor>> seeds;
  seeds.emplace_back(slot, std::move(gradient));
  tape.backward(std::move(seeds));
}

float train_step(Context context, Classifier& model, const Tensor& images, const std::vector<std::int64_t>& labels,
                 float label_smoothing, bool recompute, bool training) {
  LossState loss(context.device, images.shape().n, label_smoothing);
  loss.set_labels(labels);
  train_step(context, model, images, loss, recompute, training);
  return loss.value().to_vector()[0];
}

}  // namespace frost::classify
