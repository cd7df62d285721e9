#include <fmt/format.h>

#include <functional>
#include <utility>

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
