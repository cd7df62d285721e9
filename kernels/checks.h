#pragma once
#include <algorithm>

#include "kernels/elementwise.h"
#include "kernels/pool.h"

/// Argument checks for every backend: one clear line where views do not agree.
namespace frost {

inline void check_same(const char* what, const ConstView& a, const ConstView& b) {
  FROST_CHECK(a.shape == b.shape, what, ": shapes ", a.shape, " and ", b.shape, " differ");
  FROST_CHECK(a.dtype == b.dtype, what, ": types ", name_of(a.dtype), " and ", name_of(b.dtype), " differ");
}

/// Is b one factor for each of a's channels?
inline bool per_channel(const ConstView& a, const ConstView& b) {
  return b.shape == Shape{a.shape.n, 1, 1, a.shape.c} && b.shape != a.shape;
}
inline void check_factor(const char* what, const ConstView& a, const ConstView& b) {
  FROST_CHECK((b.shape == a.shape || per_channel(a, b)) && a.dtype == b.dtype, what, ": a is ", a.shape, " ",
              name_of(a.dtype), ", b is ", b.shape, " ", name_of(b.dtype),
              "; expected the same shape or one factor for each channel");
}

inline void check_copy(const CopyView& a) {
  FROST_CHECK(a.x.shape == a.y.shape, "copy: shapes ", a.x.shape, " and ", a.y.shape, " differ");
}

/// Pixel (n, h, w) of the smaller view is pixel (n, h + top, w + left) of the larger one.
inline void check_pad(const ConstView& small, const ConstView& large, const ZeroPad& a) {
  const Shape grown{small.shape.n, small.shape.h + a.top + a.bottom, small.shape.w + a.left + a.right, small.shape.c};
  FROST_CHECK(std::min({a.left, a.right, a.top, a.bottom}) >= 0 && large.shape == grown && small.dtype == large.dtype,
              "zero pad: ", small.shape, " with left ", a.left, ", right ", a.right, ", top ", a.top, ", bottom ", a.bottom,
              " does not give ", large.shape);
}

inline void check_depth(const ConstView& wide, const ConstView& deep) {
  const Shape& s = deep.shape;
  FROST_CHECK(wide.shape.h == 2 * s.h && wide.shape.w == 2 * s.w && wide.shape.n == s.n && 4 * wide.shape.c == s.c &&
                  wide.dtype == deep.dtype,
              "space to depth: ", wide.shape, " and ", s,
              " do not match (twice the rows and columns, a quarter of the channels)");
}

inline void check_image(const NormalizeImage& a) {
  FROST_CHECK(a.x.shape == a.y.shape && a.x.dtype == DType::u8, "normalize image: x ", a.x.shape, " ", name_of(a.x.dtype),
              ", y ", a.y.shape, "; expected the same shape, and u8 pixels in x");
}

/// Of a pool that reads `x`: windows that always hold a pixel, and whose pixels can be numbered with 16 bits.
inline void check_windows(const char* what, const PoolGeometry& g, const Shape& x) {
  FROST_CHECK(g.kernel > 0 && g.kernel <= PoolGeometry::kLargest && g.stride > 0 && g.pad >= 0 && g.pad <= g.kernel / 2,
              what, ": kernel ", g.kernel, ", stride ", g.stride, ", padding ", g.pad, "; expected a kernel of 1 to ",
              PoolGeometry::kLargest, ", a stride of 1 or more and a padding of at most half the kernel");
  FROST_CHECK(x.h + 2 * g.pad >= g.kernel && x.w + 2 * g.pad >= g.kernel, what, ": input ", x,
              " is smaller than the window");
}

inline void check_pool(const char* what, const PoolGeometry& g, const ConstView& x, const ConstView& y) {
  check_windows(what, g, x.shape);
  FROST_CHECK(y.shape == g.output(x.shape), what, ": x of ", x.shape, " does not give y of ", y.shape);
  FROST_CHECK(x.dtype == y.dtype, what, ": types ", name_of(x.dtype), " and ", name_of(y.dtype), " differ");
}

/// Adaptive average pooling and resizing: any height and width give any other.
inline void check_spatial(const char* what, const ConstView& x, const ConstView& y) {
  FROST_CHECK(x.shape.n == y.shape.n && x.shape.c == y.shape.c && x.shape.elements() > 0 && y.shape.elements() > 0 &&
                  x.dtype == y.dtype,
              what, ": x ", x.shape, " ", name_of(x.dtype), " does not give y ", y.shape, " ", name_of(y.dtype));
}

}  // namespace frost
