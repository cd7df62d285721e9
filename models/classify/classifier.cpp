#include "models/classify/classifier.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "kernels/trace/trace.h"
#include "models/classify/resnet.h"
#include "models/classify/resnet_v2.h"
#include "models/classify/vgg.h"
#include "models/classify/yolo_classifier.h"

namespace frost::classify {

void Classifier::finish(slim::LayerNames layers) {
  layers_ = std::move(layers);
  name_all("");
  for (int c = 0; c < classes(); ++c) names.push_back(std::to_string(c));
}

void Classifier::set_dropout(float p) {
  walk([&](const std::string&, Module& module) {
    if (auto* dropout = dynamic_cast<DropoutLayer*>(&module)) dropout->p = p;
  });
}

std::string Classifier::summary(Device& device, int imgsz) {
  std::int64_t layers = 0, parameters = 0, trainable = 0;
  walk([&](const std::string&, Module& module) { layers += !module.own_parameters().empty(); });
  for (const Parameter* p : this->parameters()) {
    parameters += p->value.elements();
    if (p->trainable) trainable += p->value.elements();
  }
  Profile profile;
  Device dry(make_dry_backend(device.backend(), {}));
  Context context{.device = dry, .profile = &profile};
  forward(context, {Tensor(dry, {1, imgsz, imgsz, 3}), -1, nullptr});
  const double macs = static_cast<double>(profile.convolution + profile.norm + profile.linear);
  return fmt::format("{} summary: {} layers, {} parameters, {} gradients, {:.1f} GFLOPs at {}", architecture(), layers,
                     parameters, trainable, 2 * macs / 1e9, imgsz);
}

int Classifier::whole_strides(int imgsz) {
  const int rounded = (imgsz + kStride - 1) / kStride * kStride;
  if (rounded != imgsz)
    fmt::print("WARNING: --imgsz {} must be a multiple of {}, updating to {}\n", imgsz, kStride, rounded);
  return rounded;
}

void initialise_for_relu(Conv2d& conv, Rng& rng) {
  const double fan_out = static_cast<double>(conv.out) * conv.geometry.kernel_h * conv.geometry.kernel_w;
  const double deviation = std::sqrt(2.0 / fan_out);
  std::vector<float> values(static_cast<std::size_t>(conv.weight.value.elements()));
  for (float& value : values) value = static_cast<float>(deviation * rng.normal());
  conv.weight.value.assign(values);
  conv.weight.touch();
  if (!conv.bias) return;
  conv.bias->value.fill_zero();
  conv.bias->touch();
}

std::vector<std::string> classifier_names() {
  return {"resnet18",    "resnet34",    "resnet50",    "resnet50v2",  "vgg16",      "vgg16_bn",
          "yolov5n-cls", "yolov5s-cls", "yolov5m-cls", "yolov5l-cls", "yolov5x-cls"};
}

std::unique_ptr<Classifier> make_classifier(Device& device, const std::string& architecture, int classes, Seed seed,
                                            int cutoff) {
  if (architecture == "resnet18") return std::make_unique<ResNet>(device, ResNetKind::resnet18, classes, seed);
  if (architecture == "resnet34") return std::make_unique<ResNet>(device, ResNetKind::resnet34, classes, seed);
  if (architecture == "resnet50") return std::make_unique<ResNet>(device, ResNetKind::resnet50, classes, seed);
  if (architecture == "resnet50v2") return std::make_unique<ResNetV2>(device, classes, seed);
  if (architecture == "vgg16") return std::make_unique<Vgg16>(device, false, classes, seed);
  if (architecture == "vgg16_bn") return std::make_unique<Vgg16>(device, true, classes, seed);
  if (architecture.starts_with("yolov5") && architecture.ends_with("-cls"))
    return std::make_unique<YoloClassifier>(device, architecture, classes, seed, cutoff);
  fail("--model ", architecture,
       " not found. Available models are: ", fmt::format("{}", fmt::join(classifier_names(), ", ")));
}

}  // namespace frost::classify
