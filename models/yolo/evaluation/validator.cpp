#include "models/yolo/evaluation/validator.h"

#include <algorithm>
#include <chrono>

#include "engine/base/interrupt.h"
#include "models/run/inference.h"
#include "models/yolo/boxes.h"
#include "models/yolo/evaluation/results.h"

namespace frost::yolo {
namespace {

using Clock = std::chrono::steady_clock;
double ms_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double, std::milli>(b - a).count();
}

/// How image i of the batch was fitted into the canvas.
CanvasFit fit_of(const ItemInfo& info) {
  return {static_cast<float>(info.ratio_h), static_cast<float>(info.pad_w), static_cast<float>(info.pad_h),
          static_cast<float>(info.width0), static_cast<float>(info.height0)};
}

}  // namespace

Tensor network_input(Device& device, const DetectionBatch& batch, DType compute) {
  const Shape shape{batch.n, batch.h, batch.w, 3};
  const Tensor pixels(device, shape, DType::u8, Role::input);
  device.backend().upload(pixels.data(), batch.pixels.data(), batch.bytes());
  return normalised(device, pixels, compute);
}

ValidationResult validate(Device& device, DetectionModel& model, DetectionLoader& loader, const ValidateOptions& options) {
  Backend& backend = device.backend();
  const int classes = options.single_cls ? 1 : model.detect().classes;
  DetectionMetrics metrics(classes);
  ValidationResult result{.images = 0, .summary = {}, .confusion = ConfusionMatrix(classes)};
  std::optional<LossSettings> loss = options.loss;
  std::int64_t seen = 0, batches = 0;

  run::Inference network(
      device, model, options.compute, options.cuda_graph,
      [&](const Tensor& pixels, const Tensor& input) { backend.normalize_image({.x = pixels, .y = input}); },
      [&](Context& context, const Var& image) { return model.heads(context, image); });

  Progress bar(options.observer, options.label.empty() ? metrics_header() : options.label, loader.batches());
  loader.start(0);
  while (DetectionBatch* batch = loader.next()) {
    if (InterruptGuard::requested()) throw Interrupted("interrupted during validation");
    if (batch->n == 0) {  // none of its pictures could be decoded
      bar.advance();
      continue;
    }
    const auto t0 = Clock::now();
    network.load({batch->n, batch->h, batch->w, 3}, batch->pixels);
    const auto t1 = Clock::now();
    const std::vector<Var>& maps = network.run();
    const DecodedRows rows = backend.detect_decode(
        {.levels = model.detect().levels(maps), .classes = model.detect().classes, .conf_threshold = options.conf_thres});
    backend.synchronize();
    const auto t2 = Clock::now();
    if (loss) {
      const DetectLossResult step = detection_loss(device, model, maps, batch->targets, *loss);
      for (std::size_t k = 0; k < 3; ++k) result.losses[k] += step.items[k];
    }
    const auto t3 = Clock::now();
    std::vector<std::vector<Detection>> detections = backend.nms({.rows = rows.data(),
                                                                  .row_counts = rows.counts,
                                                                  .classes = model.detect().classes,
                                                                  .conf_threshold = options.conf_thres,
                                                                  .iou_threshold = options.iou_thres,
                                                                  .multi_label = true,
                                                                  .agnostic = options.single_cls,
                                                                  .max_detections = options.max_det});
    const auto t4 = Clock::now();
    result.pre_ms += ms_between(t0, t1);
    result.inference_ms += ms_between(t1, t2);
    result.nms_ms += ms_between(t3, t4);

    for (std::int64_t i = 0; i < batch->n; ++i) {
      const ItemInfo& info = batch->infos[static_cast<std::size_t>(i)];
      const CanvasFit fit = fit_of(info);
      std::vector<Detection>& found = detections[static_cast<std::size_t>(i)];
      ImageDetections image{batch->paths[static_cast<std::size_t>(i)],
                            info.width0,
                            info.height0,
                            {static_cast<int>(batch->h), static_cast<int>(batch->w)},
                            found};
      for (Detection& d : image.native) {
        const BoxXyxy box = to_native(box_of(d), fit);
        d.x1 = box.x1, d.y1 = box.y1, d.x2 = box.x2, d.y2 = box.y2;
        if (options.single_cls) d.label = 0;
      }
      std::vector<LabelledBox> labels;
      for (std::int64_t t = 0; t < batch->target_count(); ++t) {
        const float* row = &batch->targets[static_cast<std::size_t>(t) * 6];
        if (static_cast<std::int64_t>(row[0]) != i) continue;
        const auto w = static_cast<float>(batch->w), h = static_cast<float>(batch->h);
        labels.push_back(
            {to_native(xyxy_of(BoxXywh{row[2] * w, row[3] * h, row[4] * w, row[5] * h}), fit), static_cast<int>(row[1])});
      }
      metrics.add_image(image.native, labels);
      if (options.image_done) options.image_done(image);
    }
    if (options.batch_done) options.batch_done(batches, *batch, detections);
    seen += batch->n;
    ++batches;
    bar.advance();
  }
  bar.finish();
  result.images = seen;
  result.summary = metrics.summary();
  result.confusion = metrics.confusion();
  for (double& value : result.losses) value /= static_cast<double>(std::max<std::int64_t>(batches, 1));
  const double images = static_cast<double>(std::max<std::int64_t>(seen, 1));
  result.pre_ms /= images;
  result.inference_ms /= images;
  result.nms_ms /= images;
  return result;
}

}  // namespace frost::yolo
