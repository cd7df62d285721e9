#pragma once
#include "kernels/math/pool.h"
#include "kernels/view.h"

namespace frost {

struct PoolGeometry {
  static constexpr int kLargest = 256;  // kernel: 256 x 256 pixels of a window are what 16 bits can number
  int kernel = 2, stride = 2, pad = 0;
  bool ceil_mode = false;  // windows may go past the end if they begin inside or in the first padding
  Shape output(const Shape& x) const { return {x.n, windows(x.h), windows(x.w), x.c}; }
  std::int64_t windows(std::int64_t size) const {
    const std::int64_t last = (size + 2 * pad - kernel + (ceil_mode ? stride - 1 : 0)) / stride;
    return last + (ceil_mode && last * stride >= size + pad ? 0 : 1);
  }
};

/// Maximum over each window; padding counts as minus infinity.
struct MaxPoolForward {
  PoolGeometry geometry;
  ConstView x;
  View y;
};
/// dx overwritten: each dy goes to the first maximum of its window in row-major order, found again from x (no index is
/// kept).
struct MaxPoolBackward {
  PoolGeometry geometry;
  ConstView x, dy;
  View dx;
};

/// Mean over each window. count_include_pad: zeros of the padding count as values, else the image's own pixels alone.
struct AvgPoolForward {
  PoolGeometry geometry;
  bool count_include_pad = true;
  ConstView x;
  View y;
};
struct AvgPoolBackward {
  PoolGeometry geometry;
  bool count_include_pad = true;
  ConstView dy;
  View dx;
};  // dx overwritten
/// The rows (or columns) of one of these.
template <class AvgPool>
math::WindowSide side_of(const AvgPool& a, std::int64_t in, std::int64_t out) {
  return {a.geometry.kernel, a.geometry.stride, a.geometry.pad, a.count_include_pad, in, out};
}

/// Output cell i averages rows floor(i in / out) .. ceil((i + 1) in / out) - 1, columns alike. y's shape says the output
/// size.
struct AdaptiveAvgPoolForward {
  ConstView x;
  View y;
};
struct AdaptiveAvgPoolBackward {
  ConstView dy;
  View dx;
};  // dx overwritten

/// bilinear: half-pixel centres (align_corners false); bilinear_corners: the corners' centres coincide (true).
enum class ResizeMode { nearest, bilinear, bilinear_corners };
/// y's shape says the output size; nearest takes source index floor(i in / out).
struct ResizeForward {
  ResizeMode mode;
  ConstView x;
  View y;
};
struct ResizeBackward {
  ResizeMode mode;
  ConstView dy;
  View dx;
};  // dx overwritten

}  // namespace frost
