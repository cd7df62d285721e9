#include "models/classify/classifier.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/trace/trace.h"
#include "models/classify/inception_v3.h"
#include "models/classify/mobilenet_v2.h"
#include "models/classify/mobilenet_v3.h"
#include "models/classify/resnet.h"
#include "models/classify/resnet_v2.h"
#include "models/classify/vgg.h"
#include "models/classify/xception.h"
#include "models/classify/yolo_classifier.h"

namespace frost::classify {

namespace {

/// What a family is built for.
struct Order {
  Device& device;
  int classes;
  Seed seed;
  int cutoff;
};
using Maker = std::function<std::unique_ptr<Classifier>(const Order&)>;

template <class Family, class... Kind>
Maker of(Kind... kind) {
  return [=](const Order& o) { return std::make_unique<Family>(o.device, kind..., o.classes, o.seed); };
}
Maker yolo(const std::string& name) {
  return [=](const Order& o) { return std::make_unique<YoloClassifier>(o.device, name, o.classes, o.seed, o.cutoff); };
}

/// All classifiers by name: a new one is one line here.
const std::vector<std::pair<std::string, Maker>>& registry() {
  static const std::vector<std::pair<std::string, Maker>> table{
      {"resnet18", of<ResNet>(ResNetKind::resnet18)},
      {"resnet34", of<ResNet>(ResNetKind::resnet34)},
      {"resnet50", of<ResNet>(ResNetKind::resnet50)},
      {"resnet50v2", of<ResNetV2>()},
      {"vgg16", of<Vgg16>(false)},
      {"vgg16_bn", of<Vgg16>(true)},
      {"mobilenet_v2", of<MobileNetV2>()},
      {"mobilenet_v3_small", of<MobileNetV3>(MobileNetV3Kind::small)},
      {"mobilenet_v3_large", of<MobileNetV3>(MobileNetV3Kind::large)},
      {"inception_v3", of<InceptionV3>()},
      {"xception", of<Xception>()},
      {"yolov5n-cls", yolo("yolov5n-cls")},
      {"yolov5s-cls", yolo("yolov5s-cls")},
      {"yolov5m-cls", yolo("yolov5m-cls")},
      {"yolov5l-cls", yolo("yolov5l-cls")},
      {"yolov5x-cls", yolo("yolov5x-cls")},
  };
  return table;
}

}  // namespace

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

std::vector<std::string> classifier_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : registry()) names.push_back(name);
  return names;
}

std::unique_ptr<Classifier> make_classifier(Device& device, const std::string& architecture, int classes, Seed seed,
                                            int cutoff) {
  const Order order{device, classes, seed, cutoff};
  for (const auto& [name, make] : registry())
    if (name == architecture) return make(order);
  if (architecture.starts_with("yolov5") && architecture.ends_with("-cls"))
    return yolo(architecture)(order);  // of any graph
  fail("--model ", architecture,
       " not found. Available models are: ", fmt::format("{}", fmt::join(classifier_names(), ", ")));
}

}  // namespace frost::classify
