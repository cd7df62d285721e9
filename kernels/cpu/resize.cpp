#include "kernels/checks.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/math/pool.h"
#include "kernels/pool.h"

namespace frost::cpu {
namespace {

/// A resize along one axis as a sparse matrix: line i of the result is the weighted sum of lines `index` of the source.
/// Forward has a line for each output; backward is the transpose, a line for each input.
struct Tap {
  std::int64_t index;
  float weight;
};
using Axis = std::vector<std::vector<Tap>>;

Axis forward_axis(ResizeMode mode, std::int64_t in, std::int64_t out) {
  Axis axis(static_cast<std::size_t>(out));
  for (std::int64_t i = 0; i < out; ++i) {
    const auto tap = mode == ResizeMode::nearest    ? math::nearest_tap(i, in, out)
                     : mode == ResizeMode::bilinear ? math::bilinear_tap(i, in, out)
                                                    : math::corner_tap(i, in, out);
    auto& taps = axis[static_cast<std::size_t>(i)];
    taps.push_back({tap.low, 1 - tap.fraction});
    if (tap.fraction > 0) taps.push_back({tap.high, tap.fraction});
  }
  return axis;
}
Axis transposed(const Axis& axis, std::int64_t in) {
  Axis lines(static_cast<std::size_t>(in));
  for (std::size_t i = 0; i < axis.size(); ++i)
    for (const auto& tap : axis[i])
      lines[static_cast<std::size_t>(tap.index)].push_back({static_cast<std::int64_t>(i), tap.weight});
  return lines;
}

/// Every pixel of y is the weighted sum of the pixels of x that its row's and its column's taps name.
template <class T>
void weighted(const ConstView& x, const View& y, const Axis& rows, const Axis& columns) {
  const Shape& out = y.shape;
  simd_ranges(out.n * out.h, 1, [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    std::vector<float> line(static_cast<std::size_t>(out.w * out.c));
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t n = row / out.h, h = row % out.h;
      std::fill(line.begin(), line.end(), 0.0f);
      for (const Tap& r : rows[static_cast<std::size_t>(h)])
        for (std::int64_t w = 0; w < out.w; ++w)
          for (const Tap& c : columns[static_cast<std::size_t>(w)])
            for_lanes(out.c,
                      [=, source = pixel<T>(x, n, r.index, c.index), sum = line.data() + w * out.c,
                       weight = r.weight * c.weight](std::int64_t j) FROST_LOOP { sum[j] += weight * to_float(source[j]); });
      store_pixels(line.data(), y.pitch, out.w, out.c, pixel<T>(y, n, h, 0));
    }
  });
}

}  // namespace

void CpuBackend::resize_forward(const ResizeForward& a) {
  check_spatial("resize", a.x, a.y);
  const Axis rows = forward_axis(a.mode, a.x.shape.h, a.y.shape.h), columns = forward_axis(a.mode, a.x.shape.w, a.y.shape.w);
  with_type(a.x.dtype, "resize", [&](auto type) { weighted<decltype(type)>(a.x, a.y, rows, columns); });
}
void CpuBackend::resize_backward(const ResizeBackward& a) {
  check_spatial("resize", a.dx, a.dy);
  const Shape &in = a.dx.shape, &out = a.dy.shape;
  const Axis rows = transposed(forward_axis(a.mode, in.h, out.h), in.h),
             columns = transposed(forward_axis(a.mode, in.w, out.w), in.w);
  with_type(a.dx.dtype, "resize backward", [&](auto type) { weighted<decltype(type)>(a.dy, a.dx, rows, columns); });
}

}  // namespace frost::cpu
