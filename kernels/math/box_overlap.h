#pragma once
#include "kernels/math/box_iou.h"

namespace frost::math {

template <class T>
FROST_HD T box_area(const Corners<T>& b) {
  return (b.x2 - b.x1) * (b.y2 - b.y1);
}

/// Intersection over union as NMS (eps = 0) and the metrics (eps = 1e-7) define it (docs/spec/val.md sections 3 and 4.2),
/// where box_iou.h's has an epsilon in the height. Two boxes without area give NaN under eps = 0, which compares as "no
/// overlap".
template <class T>
FROST_HD T box_overlap(const Corners<T>& a, T area_a, const Corners<T>& b, T area_b, T eps) {
  const T w = smaller(a.x2, b.x2) - larger(a.x1, b.x1), h = smaller(a.y2, b.y2) - larger(a.y1, b.y1);
  const T inter = larger(T(0), w) * larger(T(0), h);
  return inter / (area_a + area_b - inter + eps);
}

}  // namespace frost::math
