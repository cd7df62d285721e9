#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

template <class T> struct Corners { T x1, y1, x2, y2; };

template <class T> FROST_HD T box_area(const Corners<T>& b) { return (b.x2 - b.x1) * (b.y2 - b.y1); }

/// Intersection over union. NMS takes eps = 0, metrics 1e-7 (spec/val.md sections 3 and 4.2). Two boxes without area give
/// NaN under eps = 0, which compares as "no overlap".
template <class T> FROST_HD T box_overlap(const Corners<T>& a, T area_a, const Corners<T>& b, T area_b, T eps) {
  const T x1 = a.x1 > b.x1 ? a.x1 : b.x1, y1 = a.y1 > b.y1 ? a.y1 : b.y1;
  const T x2 = a.x2 < b.x2 ? a.x2 : b.x2, y2 = a.y2 < b.y2 ? a.y2 : b.y2;
  const T w = x2 - x1, h = y2 - y1;
  const T inter = (w > T(0) ? w : T(0)) * (h > T(0) ? h : T(0));
  return inter / (area_a + area_b - inter + eps);
}

}  // namespace frost::math
