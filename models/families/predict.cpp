#include "models/families/predict.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include "engine/image/color.h"
#include "engine/image/resize.h"
#include "models/classify/dataset.h"
#include "models/classify/validator.h"
#include "models/graph/detection_model.h"
#include "models/yolo/boxes.h"

namespace frost {
namespace {

using Framing = Preprocessing::Framing;
using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

Device& device_of(Model& model) { return model.parameters().at(0)->value.device(); }

PredictOptions completed(PredictOptions options, const Model& model) {
  if (options.imgsz == 0) options.imgsz = model.preprocessing().framing == Framing::letterbox ? 640 : 224;
  const int stride = model.stride();
  options.imgsz = (options.imgsz + stride - 1) / stride * stride;
  return options;
}

/// Pixels to the network's input, as the family wants them.
run::Inference::Prepare preparation(Device& device, const Preprocessing& preprocessing) {
  if (preprocessing.framing == Framing::letterbox)
    return [&device](const Tensor& pixels, const Tensor& input) {
      device.backend().normalize_image({.x = pixels, .y = input});
    };
  return [normalise = classify::Normaliser(device, preprocessing)](const Tensor& pixels, const Tensor& input) {
    normalise(pixels, input);
  };
}

DType usual_type(const Backend& backend) {
  return backend.supports(DType::f16) && backend.supports(DType::bf16) ? DType::bf16 : DType::f32;  // no CPU has f16 here
}

/// What the head maps of one image say, in pixels of the network's input.
std::vector<Detection> boxes(Device& device, const Detect& head, const std::vector<Var>& maps, const PredictOptions& o) {
  const DecodedRows rows =
      device.backend().detect_decode({.levels = head.levels(maps), .classes = head.classes, .conf_threshold = o.conf_thres});
  return device.backend()
      .nms({.rows = rows.data(),
            .row_counts = rows.counts,
            .classes = head.classes,
            .conf_threshold = o.conf_thres,
            .iou_threshold = o.iou_thres,
            .agnostic = o.agnostic_nms,
            .max_detections = o.max_det,
            .keep_classes = o.classes})
      .at(0);
}

/// Every class with its probability, best first, without a box.
std::vector<Detection> classes(Device& device, const Tensor& logits, const PredictOptions& o) {
  const std::vector<float> values = classify::softmax(device, logits);
  std::vector<Detection> found;
  for (int c = 0; c < static_cast<int>(values.size()); ++c)
    if (o.classes.empty() || std::ranges::find(o.classes, c) != o.classes.end())
      found.push_back({0, 0, 0, 0, values[static_cast<std::size_t>(c)], c});
  std::ranges::stable_sort(found, std::ranges::greater(), &Detection::confidence);
  found.resize(std::min(found.size(), static_cast<std::size_t>(o.max_det)));
  return found;
}

std::vector<Detection> decoded(Device& device, Model& model, const std::vector<Var>& outputs, const PredictOptions& o) {
  if (const auto* detector = dynamic_cast<DetectionModel*>(&model)) return boxes(device, detector->detect(), outputs, o);
  return classes(device, outputs.front().value, o);
}

}  // namespace

Predictor::Predictor(Model& model, const PredictOptions& options)
    : model_(model),
      options_(completed(options, model)),
      device_(device_of(model)),
      compute_(options.compute.value_or(usual_type(device_.backend()))),
      network_(device_, model, compute_, options.cuda_graph, preparation(device_, model.preprocessing()),
               [&model](Context& context, const Var& image) { return model.outputs(context, image); }) {}

std::vector<Detection> Predictor::operator()(const Image& image) {
  FROST_CHECK(!image.empty(), "predict: an image without pixels");
  auto start = Clock::now();
  const Framing framing = model_.preprocessing().framing;
  Letterbox fit;
  if (framing == Framing::letterbox) {
    const LetterboxOptions shape{
        .height = options_.imgsz, .width = options_.imgsz, .minimal = true, .stride = std::max(model_.stride(), 32)};
    fit = plan_letterbox(image.height, image.width, shape);
    last_.height = fit.height(), last_.width = fit.width();
    rgb_.resize(static_cast<std::size_t>(fit.height()) * static_cast<std::size_t>(fit.width()) * 3);
    letterbox_rgb(image, shape, rgb_.data());
  } else {
    const Image view = classify::centre_view(image, options_.imgsz, framing == Framing::square);
    last_.height = last_.width = options_.imgsz;
    rgb_.resize(view.pixels.size());
    pack_rgb(view, rgb_.data());
  }
  network_.load({1, last_.height, last_.width, 3}, rgb_);
  last_.pre_ms = ms_since(start);

  start = Clock::now();
  const std::vector<Var>& outputs = network_.run();
  device_.backend().synchronize();
  last_.inference_ms = ms_since(start);

  start = Clock::now();
  std::vector<Detection> found = decoded(device_, model_, outputs, options_);
  const auto width = static_cast<float>(image.width), height = static_cast<float>(image.height);
  const yolo::CanvasFit back = yolo::centred_fit(last_.width, last_.height, image.width, image.height);
  for (Detection& d : found) {
    const yolo::BoxXyxy box =
        framing == Framing::letterbox ? yolo::to_native({d.x1, d.y1, d.x2, d.y2}, back) : yolo::BoxXyxy{0, 0, width, height};
    d.x1 = box.x1, d.y1 = box.y1, d.x2 = box.x2, d.y2 = box.y2;
  }
  last_.post_ms = ms_since(start);
  return found;
}

std::vector<Detection> predict(Model& model, const Image& image, const PredictOptions& options) {
  return Predictor(model, options)(image);
}

std::vector<std::vector<Detection>> predict(Model& model, std::span<const Image> images, const PredictOptions& options) {
  Predictor predictor(model, options);
  std::vector<std::vector<Detection>> found;
  for (const Image& image : images) found.push_back(predictor(image));
  return found;
}

}  // namespace frost
