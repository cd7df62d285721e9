#include "models/yolo/boxes.h"

#include <algorithm>

namespace frost::yolo {

BoxXywh xywh_of(const BoxXyxy& b) { return {(b.x1 + b.x2) / 2, (b.y1 + b.y2) / 2, b.x2 - b.x1, b.y2 - b.y1}; }

BoxXyxy xyxy_of(const BoxXywh& b) { return {b.x - b.w / 2, b.y - b.h / 2, b.x + b.w / 2, b.y + b.h / 2}; }

BoxXywh normalised_xywh_of(const BoxXyxy& box, float width, float height) {
  const BoxXywh b = xywh_of(box);
  return {b.x / width, b.y / height, b.w / width, b.h / height};
}

BoxXyxy xyxy_of_normalised(const BoxXywh& b, float width, float height, float pad_x, float pad_y) {
  return {width * (b.x - b.w / 2) + pad_x, height * (b.y - b.h / 2) + pad_y, width * (b.x + b.w / 2) + pad_x,
          height * (b.y + b.h / 2) + pad_y};
}

BoxXyxy clipped(const BoxXyxy& b, float width, float height, float eps) {
  const auto within = [](float value, float most) { return std::clamp(value, 0.0f, std::max(0.0f, most)); };
  return {within(b.x1, width - eps), within(b.y1, height - eps), within(b.x2, width - eps), within(b.y2, height - eps)};
}

CanvasFit centred_fit(int canvas_width, int canvas_height, int width, int height) {
  const double gain = std::min(static_cast<double>(canvas_height) / height, static_cast<double>(canvas_width) / width);
  return {.gain = static_cast<float>(gain),
          .pad_x = static_cast<float>((canvas_width - width * gain) / 2),
          .pad_y = static_cast<float>((canvas_height - height * gain) / 2),
          .width = static_cast<float>(width),
          .height = static_cast<float>(height)};
}

BoxXyxy to_native(const BoxXyxy& b, const CanvasFit& f) {
  return clipped(
      {(b.x1 - f.pad_x) / f.gain, (b.y1 - f.pad_y) / f.gain, (b.x2 - f.pad_x) / f.gain, (b.y2 - f.pad_y) / f.gain}, f.width,
      f.height);
}

float metric_iou(const BoxXyxy& a, const BoxXyxy& b) {
  return math::box_overlap(a, math::box_area(a), b, math::box_area(b), 1e-7f);
}

}  // namespace frost::yolo
