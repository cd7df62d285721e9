#pragma once
#include "kernels/detect.h"

/// Argument checks of the detection primitives, for every backend.
namespace frost {

/// Shapes and types; pointers are not looked at.
inline void check_detect_loss(const DetectLoss& a) {
  FROST_CHECK(!a.levels.empty(), "detect_loss: no levels");
  FROST_CHECK(a.classes >= 1, "detect_loss: ", a.classes, " classes");
  FROST_CHECK(a.dheads.empty() || a.dheads.size() == a.levels.size(), "detect_loss: ", a.dheads.size(), " gradients for ",
              a.levels.size(), " levels");
  for (std::size_t i = 0; i < a.levels.size(); ++i) {
    const ConstView& head = a.levels[i].head;
    const auto anchors = static_cast<std::int64_t>(a.levels[i].anchors.size() / 2);
    const bool floating = head.dtype == DType::f32 || head.dtype == DType::bf16 || head.dtype == DType::f16;
    FROST_CHECK(floating, "detect_loss: head ", i, " is ", name_of(head.dtype), ", f32, bf16 or f16 expected");
    FROST_CHECK(anchors > 0 && a.levels[i].anchors.size() % 2 == 0 && head.shape.c == anchors * (5 + a.classes),
                "detect_loss: head ", i, " is ", head.shape, ", ", anchors, " anchors of 5 + ", a.classes,
                " attributes expected");
    FROST_CHECK(head.shape.n == a.levels[0].head.shape.n, "detect_loss: head ", i, " has ", head.shape.n,
                " images, head 0 has ", a.levels[0].head.shape.n);
    FROST_CHECK(head.shape.pixels() > 0, "detect_loss: head ", i, " is ", head.shape);
    if (a.dheads.empty()) continue;
    const View& d = a.dheads[i];
    FROST_CHECK(d && d.shape == head.shape, "detect_loss: gradient ", i, " is ", d.shape, ", its head is ", head.shape);
    const bool gradient_floating = d.dtype == DType::f32 || d.dtype == DType::bf16 || d.dtype == DType::f16;
    FROST_CHECK(gradient_floating, "detect_loss: gradient ", i, " is ", name_of(d.dtype), ", f32, bf16 or f16 expected");
  }
}

/// The heads of a decode; each backend says which types it takes.
inline void check_detect_decode(const DetectDecode& d) {
  FROST_CHECK(!d.levels.empty(), "detect_decode: no levels");
  const std::int64_t attributes = 5 + d.classes, batch = d.levels.front().head.shape.n;
  for (const auto& level : d.levels) {
    const ConstView& head = level.head;
    FROST_CHECK(head.shape.n == batch, "detect_decode: heads of ", batch, " and ", head.shape.n, " images");
    FROST_CHECK(head.shape.c * 2 == attributes * static_cast<std::int64_t>(level.anchors.size()), "detect_decode: head has ",
                head.shape.c, " channels, ", level.anchors.size() / 2, " anchors of ", attributes, " attributes expected");
  }
}

inline void check_nms(const Nms& a) {
  for (const std::int64_t count : a.row_counts)
    FROST_CHECK(count >= 0 && count * a.classes < std::int64_t{1} << 31, "nms: ", count, " rows of ", a.classes,
                " classes in an image");
  FROST_CHECK(a.conf_threshold >= 0 && a.conf_threshold <= 1, "nms: confidence threshold ", a.conf_threshold,
              " is not between 0 and 1");
  FROST_CHECK(a.iou_threshold >= 0 && a.iou_threshold <= 1, "nms: IoU threshold ", a.iou_threshold,
              " is not between 0 and 1");
}

}  // namespace frost
