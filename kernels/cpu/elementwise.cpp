#include "kernels/elementwise.h"

#include <cstring>

#include "kernels/checks.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/math/activation.h"
#include "kernels/math/image.h"

namespace frost::cpu {
namespace {

/// y = a * b with one factor for each image's channel.
template <class T>
void scale_channels(const ConstView& a, const ConstView& b, const View& y) {
  const std::int64_t c = a.shape.c, image = a.shape.h * a.shape.w;
  simd_ranges(a.shape.pixels(), std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, c)),
              [&](std::int64_t first, std::int64_t last) FROST_LOOP {
                for (std::int64_t i = first; i < last; ++i)
                  for_lanes(c, [av = a.as<T>() + i * a.pitch, bv = b.as<T>() + i / image * b.pitch,
                                out = y.as<T>() + i * y.pitch](std::int64_t j)
                                   FROST_LOOP { out[j] = from_float<T>(to_float(av[j]) * to_float(bv[j])); });
              });
}

template <class T>
void multiply(const ConstView& a, const ConstView& b, const View& y) {
  if (per_channel(a, b)) return scale_channels<T>(a, b, y);
  for_rows(a.shape, a.packed() && b.packed() && y.packed(), [&](std::int64_t i, std::int64_t width) FROST_LOOP {
    for_lanes(width, [av = a.as<T>() + i * a.pitch, bv = b.as<T>() + i * b.pitch, out = y.as<T>() + i * y.pitch](
                         std::int64_t j) FROST_LOOP { out[j] = from_float<T>(to_float(av[j]) * to_float(bv[j])); });
  });
}

/// db of a per-channel b: dy * a summed over each image.
template <class T>
void sum_products(const ConstView& a, const ConstView& dy, const View& db) {
  const std::int64_t c = a.shape.c, image = a.shape.h * a.shape.w;
  simd_ranges(a.shape.n, 1, [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    std::vector<double> sums(static_cast<std::size_t>(c));
    for (std::int64_t n = first; n < last; ++n) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::int64_t i = n * image; i < (n + 1) * image; ++i)
        for_lanes(c, [av = a.as<T>() + i * a.pitch, dv = dy.as<T>() + i * dy.pitch, sum = sums.data()](std::int64_t j)
                         FROST_LOOP { sum[j] += static_cast<double>(to_float(av[j])) * to_float(dv[j]); });
      for_lanes(c, [sum = sums.data(), out = db.as<T>() + n * db.pitch](std::int64_t j)
                       FROST_LOOP { out[j] = from_float<T>(static_cast<float>(sum[j])); });
    }
  });
}

template <class T>
FROST_HD void move_pixels(const T* x, std::int64_t x_pitch, T* y, std::int64_t y_pitch, std::int64_t pixels,
                          std::int64_t channels) {
  if (x_pitch == channels && y_pitch == channels)
    return for_lanes(pixels * channels, [=](std::int64_t j) FROST_LOOP { y[j] = x[j]; });
  for (std::int64_t i = 0; i < pixels; ++i)
    for_lanes(channels, [=, x = x + i * x_pitch, y = y + i * y_pitch](std::int64_t j) FROST_LOOP { y[j] = x[j]; });
}

/// Block (row parity, column parity) of a pixel's four has number row + 2 * column: the order of Focus.
template <class T, bool gather>
void rearrange(const ConstView& wide, const View& deep) {
  const Shape& s = deep.shape;
  const std::int64_t c = wide.shape.c;
  simd_ranges(s.n * s.h, 1, [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    for (std::int64_t row = first; row < last; ++row)
      for (std::int64_t block = 0; block < 4; ++block) {
        T* from = const_cast<T*>(pixel<T>(wide, row / s.h, row % s.h * 2 + block % 2, block / 2));
        T* to = pixel<T>(deep, row / s.h, row % s.h, 0) + block * c;
        for (std::int64_t w = 0; w < s.w; ++w, from += 2 * wide.pitch, to += deep.pitch)
          for_lanes(c, [=](std::int64_t j) FROST_LOOP { gather ? to[j] = from[j] : from[j] = to[j]; });
      }
  });
}

}  // namespace

void CpuBackend::copy(const CopyView& a) {
  check_copy(a);
  const bool packed = a.x.packed() && a.y.packed();
  if (a.x.dtype == a.y.dtype) {
    with_bits(a.x.dtype, [&]<class T>(T) {
      for_rows(a.x.shape, packed, [&](std::int64_t i, std::int64_t width) FROST_LOOP {
        std::memmove(a.y.as<T>() + i * a.y.pitch, a.x.as<T>() + i * a.x.pitch, static_cast<std::size_t>(width) * sizeof(T));
      });
    });
    return;
  }
  with_float(a.x.dtype, "copy", [&]<class From>(From) {
    with_float(a.y.dtype, "copy", [&]<class To>(To) {
      for_rows(a.x.shape, packed, [&](std::int64_t i, std::int64_t width) FROST_LOOP {
        for_lanes(width, [x = a.x.as<From>() + i * a.x.pitch, y = a.y.as<To>() + i * a.y.pitch](std::int64_t j)
                             FROST_LOOP { y[j] = from_float<To>(to_float(x[j])); });
      });
    });
  });
}

void CpuBackend::add(const AddForward& a) {
  check_same("add", a.a, a.b);
  check_same("add", a.a, a.y);
  with_type(a.y.dtype, "add", [&]<class T>(T) {
    for_rows(a.y.shape, a.a.packed() && a.b.packed() && a.y.packed(), [&](std::int64_t i, std::int64_t width) FROST_LOOP {
      for_lanes(width, [av = a.a.as<T>() + i * a.a.pitch, bv = a.b.as<T>() + i * a.b.pitch, y = a.y.as<T>() + i * a.y.pitch](
                           std::int64_t j) FROST_LOOP { y[j] = from_float<T>(to_float(av[j]) + to_float(bv[j])); });
    });
  });
}

void CpuBackend::mul_forward(const MulForward& a) {
  check_factor("mul", a.a, a.b);
  check_same("mul", a.a, a.y);
  with_type(a.y.dtype, "mul", [&]<class T>(T) { multiply<T>(a.a, a.b, a.y); });
}

void CpuBackend::mul_backward(const MulBackward& a) {
  check_factor("mul backward", a.a, a.b);
  check_same("mul backward", a.a, a.dy);
  with_type(a.dy.dtype, "mul backward", [&]<class T>(T) {
    if (a.da) check_same("mul backward", a.a, a.da), multiply<T>(a.dy, a.b, a.da);
    if (!a.db) return;
    check_same("mul backward", a.b, a.db);
    per_channel(a.a, a.b) ? sum_products<T>(a.a, a.dy, a.db) : multiply<T>(a.dy, a.a, a.db);
  });
}

void CpuBackend::activation_forward(const ActivationForward& a) {
  check_same("activation", a.x, a.y);
  with_type(a.x.dtype, "activation", [&]<class T>(T) {
    with_activation(a.activation.kind, [&](auto kind) {
      for_rows(a.x.shape, a.x.packed() && a.y.packed(), [&](std::int64_t i, std::int64_t width) FROST_LOOP {
        for_lanes(width, [x = a.x.as<T>() + i * a.x.pitch, y = a.y.as<T>() + i * a.y.pitch,
                          slope = a.activation.slope](std::int64_t j) FROST_LOOP {
          y[j] = from_float<T>(math::activate<decltype(kind)::value>(to_float(x[j]), slope));
        });
      });
    });
  });
}

void CpuBackend::activation_backward(const ActivationBackward& a) {
  check_same("activation backward", a.x, a.dy);
  check_same("activation backward", a.x, a.dx);
  with_type(a.x.dtype, "activation backward", [&]<class T>(T) {
    with_activation(a.activation.kind, [&](auto kind) {
      for_rows(
          a.x.shape, a.x.packed() && a.dy.packed() && a.dx.packed(), [&](std::int64_t i, std::int64_t width) FROST_LOOP {
            for_lanes(width, [x = a.x.as<T>() + i * a.x.pitch, dy = a.dy.as<T>() + i * a.dy.pitch,
                              dx = a.dx.as<T>() + i * a.dx.pitch, slope = a.activation.slope](std::int64_t j) FROST_LOOP {
              dx[j] = from_float<T>(to_float(dy[j]) * math::activation_slope<decltype(kind)::value>(to_float(x[j]), slope));
            });
          });
    });
  });
}

void CpuBackend::zero_pad_forward(const ZeroPad& a) {
  check_pad(a.x, a.y, a);
  const Shape &in = a.x.shape, &out = a.y.shape;
  with_bits(a.x.dtype, [&]<class T>(T) {
    simd_ranges(out.n * out.h, 1, [&](std::int64_t first, std::int64_t last) FROST_LOOP {
      for (std::int64_t row = first; row < last; ++row) {
        const std::int64_t n = row / out.h, h = row % out.h - a.top;
        const bool inside = h >= 0 && h < in.h;
        T* y = pixel<T>(a.y, n, row % out.h, 0);
        for (std::int64_t w = 0; w < out.w; ++w)
          if (!inside || w < a.left || w >= a.left + in.w)
            std::memset(y + w * a.y.pitch, 0, static_cast<std::size_t>(in.c) * sizeof(T));
        if (inside) move_pixels(pixel<T>(a.x, n, h, 0), a.x.pitch, y + a.left * a.y.pitch, a.y.pitch, in.w, in.c);
      }
    });
  });
}

void CpuBackend::zero_pad_backward(const ZeroPad& a) {
  check_pad(a.y, a.x, a);
  const Shape& small = a.y.shape;
  with_bits(a.x.dtype, [&]<class T>(T) {
    simd_ranges(small.n * small.h, 1, [&](std::int64_t first, std::int64_t last) FROST_LOOP {
      for (std::int64_t row = first; row < last; ++row) {
        const std::int64_t n = row / small.h, h = row % small.h;
        move_pixels(pixel<T>(a.x, n, h + a.top, a.left), a.x.pitch, pixel<T>(a.y, n, h, 0), a.y.pitch, small.w, small.c);
      }
    });
  });
}

void CpuBackend::space_to_depth(const SpaceToDepth& a) {
  check_depth(a.x, a.y);
  with_bits(a.x.dtype, [&]<class T>(T) { rearrange<T, true>(a.x, a.y); });
}
void CpuBackend::depth_to_space(const DepthToSpace& a) {
  check_depth(a.y, a.x);
  const View deep{const_cast<void*>(a.x.data), a.x.shape, a.x.dtype, a.x.pitch};  // read only: gather is false
  with_bits(a.x.dtype, [&]<class T>(T) { rearrange<T, false>(a.y, deep); });
}

void CpuBackend::normalize_image(const NormalizeImage& a) {
  check_image(a);
  with_type(a.y.dtype, "normalize image", [&]<class T>(T) {
    for_rows(a.x.shape, a.x.packed() && a.y.packed(), [&](std::int64_t i, std::int64_t width) FROST_LOOP {
      for_lanes(width, [x = a.x.as<std::uint8_t>() + i * a.x.pitch, y = a.y.as<T>() + i * a.y.pitch](std::int64_t j)
                           FROST_LOOP { y[j] = from_float<T>(math::image_value(x[j])); });
    });
  });
}

}  // namespace frost::cpu
