#pragma once
#include "kernels/math/portable.h"

/// Detect's formulas at inference (docs/spec/val.md section 2), s = sigmoid(logit). The order of operations is YOLOv5
/// v7.0's.
namespace frost::math {

/// Pixels of the box's centre along one axis; `cell` is the column (row) of the grid.
template <class T>
FROST_HD T decode_centre(T s, T cell, T stride) {
  return (T(2) * s + (cell - T(0.5))) * stride;
}

/// Pixels of the box's width (height); `anchor` in grid units.
template <class T>
FROST_HD T decode_size(T s, T anchor, T stride) {
  const T twice = T(2) * s;
  return twice * twice * (anchor * stride);
}

}  // namespace frost::math
