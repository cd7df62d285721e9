#include "models/families/predict.h"

#include <algorithm>
#include <chrono>

#include "engine/image/color.h"
#include "engine/image/resize.h"
#include "engine/tensor/run_device.h"
#include "models/classify/dataset.h"
#include "models/classify/validator.h"
#include "models/yolo/boxes.h"

namespace frost {
namespace {

using Framing = Preprocessing::Framing;
using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

PredictOptions completed(PredictOptions options, const Model& model) {
  if (options.imgsz == 0) options.imgsz = model.usual_imgsz();
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

}  // namespace

Predictor::Predictor(Model& model, const PredictOptions& options)
    : model_(model),
      options_(completed(options, model)),
      device_(model.device()),
      compute_(options.compute.value_or(compute_type("auto", device_.backend()))),
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
  std::vector<Detection> found = model_.decode(outputs, options_);
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

std::vector<Detection> Model::predict(const Image& image, const PredictOptions& options) {
  return Predictor(*this, options)(image);
}

std::vector<std::vector<Detection>> Model::predict(std::span<const Image> images, const PredictOptions& options) {
  Predictor predictor(*this, options);
  std::vector<std::vector<Detection>> found;
  for (const Image& image : images) found.push_back(predictor(image));
  return found;
}

}  // namespace frost
