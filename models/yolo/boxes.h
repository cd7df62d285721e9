#pragma once
#include "kernels/math/box_overlap.h"

namespace frost::yolo {

/// Corners and centre form; pixels, or fractions of the image where a name says "normalised". float32, as upstream.
using BoxXyxy = math::Corners<float>;
struct BoxXywh {
  float x, y, w, h;  // centre and size
};

BoxXywh xywh_of(const BoxXyxy& box);
BoxXyxy xyxy_of(const BoxXywh& box);

/// Pixels to fractions of a width x height image, and back with an offset in pixels.
BoxXywh normalised_xywh_of(const BoxXyxy& box, float width, float height);
BoxXyxy xyxy_of_normalised(const BoxXywh& box, float width, float height, float pad_x = 0, float pad_y = 0);

/// Moves corners into [0, width - eps] x [0, height - eps].
BoxXyxy clipped(const BoxXyxy& box, float width, float height, float eps = 0);

/// How an image was fitted into the network's canvas: canvas = native * gain + pad (docs/spec/val.md section 4.1).
struct CanvasFit {
  float gain = 1;               // one ratio for both axes; for validation that of the heights
  float pad_x = 0, pad_y = 0;   // pixels of the canvas, left and top
  float width = 0, height = 0;  // native size in pixels
};
/// The fit when only the two sizes are known: the smaller ratio, centred.
CanvasFit centred_fit(int canvas_width, int canvas_height, int width, int height);
/// Canvas pixels to native pixels, clipped to the image.
BoxXyxy to_native(const BoxXyxy& box, const CanvasFit& fit);

/// Intersection over union with the metrics' epsilon of 1e-7.
float metric_iou(const BoxXyxy& a, const BoxXyxy& b);

}  // namespace frost::yolo
