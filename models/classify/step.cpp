#include "models/classify/step.h"

namespace frost::classify {

float cross_entropy(Device& device, const Tensor& logits, const std::vector<std::int64_t>& labels, float label_smoothing,
                    Tensor* gradient) {
  const Shape& s = logits.shape();
  FROST_CHECK(s.n == static_cast<std::int64_t>(labels.size()), "cross entropy: ", labels.size(), " labels for ", s.n,
              " rows of logits");
  Tensor targets(device, {1, 1, 1, s.n}, DType::i64, Role::input);
  device.backend().upload(targets.data(), labels.data(), labels.size() * sizeof(std::int64_t));
  const Tensor loss(device, {1, 1, 1, 1});
  device.backend().cross_entropy({.logits = logits.f32(),
                                  .labels = static_cast<const std::int64_t*>(targets.data()),
                                  .rows = s.n,
                                  .classes = s.c,
                                  .label_smoothing = label_smoothing,
                                  .loss = loss.f32(),
                                  .dlogits = gradient ? gradient->f32() : nullptr});
  return loss.to_vector()[0];
}

float train_step(Context context, Classifier& model, const Tensor& images, const std::vector<std::int64_t>& labels,
                 float label_smoothing, bool recompute, bool training, Tensor* logits) {
  Tape tape(recompute);
  context.tape = &tape;
  context.training = training;
  Var y = model.forward(context, {images, -1, nullptr});
  if (logits) *logits = y.value;
  if (!y.needs_grad()) return cross_entropy(context.device, y.value, labels, label_smoothing);  // nothing is trainable
  Tensor gradient(context.device, y.shape());
  const float loss = cross_entropy(context.device, y.value, labels, label_smoothing, &gradient);
  const int slot = y.slot;
  y = Var();
  std::vector<std::pair<int, Tensor>> seeds;
  seeds.emplace_back(slot, std::move(gradient));
  tape.backward(std::move(seeds));
  return loss;
}

}  // namespace frost::classify
