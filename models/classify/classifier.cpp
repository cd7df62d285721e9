#include "models/classify/classifier.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/trace/trace.h"

namespace frost::classify {

void Classifier::set_dropout(float p) {
  walk([&](const std::string&, Module& module) {
    if (auto* dropout = dynamic_cast<DropoutLayer*>(&module)) dropout->p = p;
  });
}

std::vector<Detection> Classifier::decode(const std::vector<Var>& outputs, const PredictOptions& options) {
  const Tensor& logits = outputs.front().value;
  const Tensor probabilities(logits.device(), logits.shape());
  logits.backend().softmax_forward({.x = logits, .y = probabilities});
  const std::vector<float> values = probabilities.to_vector();
  std::vector<Detection> found;
  for (int c = 0; c < classes(); ++c)
    if (options.classes.empty() || std::ranges::find(options.classes, c) != options.classes.end())
      found.push_back({0, 0, 0, 0, values[static_cast<std::size_t>(c)], c});
  std::ranges::stable_sort(found, std::ranges::greater(), &Detection::confidence);
  found.resize(std::min(found.size(), static_cast<std::size_t>(options.max_det)));
  return found;
}

void Classifier::make_head(int classes, std::uint64_t seed) {
  Rng rng(seed);
  head().resize(classes);
  head().initialise(rng);
}

std::unique_ptr<Model> Classifier::build_again(Device& device) {
  return make_classifier(device, architecture(), classes(), {});
}

Metadata Classifier::metadata() const {
  namespace key = checkpoint_key;
  return {{key::format, "1"}, {key::classifier, architecture()}, {key::names, nlohmann::json(names).dump()}};
}

std::string Classifier::summary(int imgsz) {
  std::int64_t layers = 0, parameters = 0, trainable = 0;
  walk([&](const std::string&, Module& module) { layers += !module.own_parameters().empty(); });
  for (const Parameter* p : this->parameters()) {
    parameters += p->value.elements();
    if (p->trainable) trainable += p->value.elements();
  }
  Profile profile;
  Device meta(make_meta_backend(head().weight.value.backend(), {}));
  Context context{.device = meta, .profile = &profile};
  forward(context, {Tensor(meta, {1, imgsz, imgsz, 3}), -1, nullptr});
  const double macs = static_cast<double>(profile.convolution + profile.norm + profile.linear);
  return fmt::format("{} summary: {} layers, {} parameters, {} gradients, {:.1f} GFLOPs at {}", architecture(), layers,
                     parameters, trainable, 2 * macs / 1e9, imgsz);
}

int Classifier::whole_strides(int imgsz, Observer& observer) {
  const int rounded = (imgsz + kStride - 1) / kStride * kStride;
  if (rounded != imgsz)
    observer.notice(fmt::format("WARNING: --imgsz {} must be a multiple of {}, updating to {}\n", imgsz, kStride, rounded));
  return rounded;
}

void initialise_for_relu(Conv2d& conv, Rng& rng) {
  const double fan_out = static_cast<double>(conv.out) * conv.geometry.kernel_h * conv.geometry.kernel_w;
  initialise_normal(conv, rng, std::sqrt(2.0 / fan_out));
}

void initialise_normal(Conv2d& conv, Rng& rng, double std) {
  std::vector<float> values(static_cast<std::size_t>(conv.weight.value.elements()));
  for (float& value : values) value = static_cast<float>(std * rng.normal());
  conv.weight.value.assign(values);
  conv.weight.touch();
  if (!conv.bias) return;
  conv.bias->value.fill_zero();
  conv.bias->touch();
}

}  // namespace frost::classify
