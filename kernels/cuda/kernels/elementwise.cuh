#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/kernels/activation.cuh"
#include "kernels/cuda/kernels/vector_items.cuh"
#include "kernels/dispatch.h"
#include "kernels/math/image.h"

/// The elementwise primitives over a launcher (kernel_launch.cuh): elementwise.cu queues them, the tests emulate them on the
/// host.
namespace frost::cuda {

/// y = op(x), value by value. Lower bound: reads x once, writes y once.
template <int width, class From, class To, class Op>
struct Unary {
  Items items;
  Plane<const From> x;
  Plane<To> y;
  Op op;
  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    auto lanes = load<width>(x.pixel(at.pixel) + at.channel, at.count);
    FROST_UNROLL
    for (int j = 0; j < width; ++j) lanes[j] = op(lanes[j]);
    store<width>(y.pixel(at.pixel) + at.channel, lanes, at.count);
  }
};

/// y = op(a, b), value by value. Lower bound: reads a and b once, writes y once.
template <int width, class T, class Op>
struct Binary {
  Items items;
  Plane<const T> a, b;
  Plane<T> y;
  Op op;
  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto left = load<width>(a.pixel(at.pixel) + at.channel, at.count),
               right = load<width>(b.pixel(at.pixel) + at.channel, at.count);
    Lanes<width> lanes;
    FROST_UNROLL
    for (int j = 0; j < width; ++j) lanes[j] = op(left[j], right[j]);
    store<width>(y.pixel(at.pixel) + at.channel, lanes, at.count);
  }
};

struct Same {
  FROST_HD float operator()(float x) const { return x; }
};
struct ImageValue {
  FROST_HD float operator()(float x) const { return math::image_value(x); }
};
struct Activate {
  Activation activation;
  FROST_HD float operator()(float x) const { return activate(activation, x); }
};
struct ActivateBackward {
  Activation activation;
  FROST_HD float operator()(float x, float dy) const { return dy * activation_slope(activation, x); }
};
struct Sum {
  FROST_HD float operator()(float a, float b) const { return a + b; }
};
struct Product {
  FROST_HD float operator()(float a, float b) const { return a * b; }
};

template <class From, class To, class Launch, class Op>
void unary(const Launch& launch, const ConstView& x, const View& y, const Op& op) {
  const Flat flat{x, y};
  const ConstView fx = flat(x);
  const View fy = flat(y);
  over_vectors<Wider<From, To>>(launch, {fx, fy}, fy.shape, [&](auto width, const Items& items) {
    return Unary<width, From, To, Op>{items, plane<From>(fx), plane<To>(fy), op};
  });
}
template <class T, class Launch, class Op>
void binary(const Launch& launch, const ConstView& a, const ConstView& b, const View& y, const Op& op) {
  const Flat flat{a, b, y};
  const ConstView fa = flat(a), fb = flat(b);
  const View fy = flat(y);
  over_vectors<T>(launch, {fa, fb, fy}, fy.shape, [&](auto width, const Items& items) {
    return Binary<width, T, Op>{items, plane<T>(fa), plane<T>(fb), plane<T>(fy), op};
  });
}

/// Lower bound: reads x once, writes y once.
template <int width, class T>
struct Move {
  Items items;
  Plane<const T> x;
  Plane<T> y;
  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    move<width>(x.pixel(at.pixel) + at.channel, y.pixel(at.pixel) + at.channel, at.count);
  }
};

template <class Launch>
void copy(const Launch& launch, const CopyView& a) {
  check_copy(a);
  if (a.x.dtype == a.y.dtype) {
    const Flat flat{a.x, a.y};
    const ConstView x = flat(a.x);
    const View y = flat(a.y);
    return with_bits(a.x.dtype, [&]<class T>(T) {
      over_vectors<T>(launch, {x, y}, y.shape, [&](auto width, const Items& items) {
        return Move<width, T>{items, plane<T>(x), plane<T>(y)};
      });
    });
  }
  with_float(a.x.dtype, "copy", [&]<class From>(From) {
    with_float(a.y.dtype, "copy", [&]<class To>(To) {
      if constexpr (!std::is_same_v<From, To>) unary<From, To>(launch, a.x, a.y, Same{});
    });
  });
}

template <class Launch>
void add(const Launch& launch, const AddForward& a) {
  check_same("add", a.a, a.b);
  check_same("add", a.a, a.y);
  with_float(a.y.dtype, "add", [&]<class T>(T) { binary<T>(launch, a.a, a.b, a.y, Sum{}); });
}

/// y = a * b with one factor for each image's channel; b comes from the cache. Lower bound: reads a once, writes y once.
template <int width, class T>
struct ScaleChannels {
  Items items;
  Divider image;
  Plane<const T> a, b;
  Plane<T> y;
  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto left = load<width>(a.pixel(at.pixel) + at.channel, at.count),
               right = load<width>(b.pixel(image.quotient(at.pixel)) + at.channel, at.count);
    Lanes<width> lanes;
    FROST_UNROLL
    for (int j = 0; j < width; ++j) lanes[j] = left[j] * right[j];
    store<width>(y.pixel(at.pixel) + at.channel, lanes, at.count);
  }
};

template <class T, class Launch>
void multiply(const Launch& launch, const ConstView& a, const ConstView& b, const View& y) {
  if (!per_channel(a, b)) return binary<T>(launch, a, b, y, Product{});
  if (a.shape.elements() == 0) return;
  over_vectors<T>(launch, {a, b, y}, a.shape, [&](auto width, const Items& items) {
    return ScaleChannels<width, T>{items, Divider(a.shape.h * a.shape.w), plane<T>(a), plane<T>(b), plane<T>(y)};
  });
}

/// db of a per-channel b: dy * a summed over each image. A block takes 32 channels of one image; its rows of threads take
/// the pixels in turn, and the sums of all rows are added in order. Lower bound: reads a and dy once.
template <int width, class T>
struct SumProducts {
  static constexpr int kThreads = 256, kPhases = 2, kChannels = 32, kRows = kThreads * width / kChannels;
  struct Shared {
    double part[kRows][kChannels];
  };
  struct Own {};
  Plane<const T> a, dy;
  Plane<T> db;
  std::int64_t image, channels;  // pixels to an image
  Divider groups;                // of 32 channels

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own&) const {
    const auto [n, group] = divide(block, groups);
    if constexpr (phase == 0) {
      const int lane = thread * width % kChannels, row = thread * width / kChannels;
      const std::int64_t first = group * kChannels + lane, left = channels - first;
      const int count = left >= width ? width : left > 0 ? static_cast<int>(left) : 0;
      Lanes<width, double> sum{};
      if (count > 0)
        for (std::int64_t p = n * image + row; p < (n + 1) * image; p += kRows) {
          const auto values = load<width>(a.pixel(p) + first, count), gradient = load<width>(dy.pixel(p) + first, count);
          FROST_UNROLL
          for (int j = 0; j < width; ++j) sum[j] += static_cast<double>(values[j]) * static_cast<double>(gradient[j]);
        }
      FROST_UNROLL
      for (int j = 0; j < width; ++j) shared.part[row][lane + j] = sum[j];
    } else {
      const std::int64_t c = group * kChannels + thread;
      if (thread >= kChannels || c >= channels) return;
      double sum = 0;
      for (int r = 0; r < kRows; ++r) sum += shared.part[r][thread];
      db.pixel(n)[c] = math::from_float<T>(static_cast<float>(sum));
    }
  }
};

template <class Launch>
void mul_forward(const Launch& launch, const MulForward& a) {
  check_factor("mul", a.a, a.b);
  check_same("mul", a.a, a.y);
  with_float(a.y.dtype, "mul", [&]<class T>(T) { multiply<T>(launch, a.a, a.b, a.y); });
}

template <class Launch>
void mul_backward(const Launch& launch, const MulBackward& a) {
  check_factor("mul backward", a.a, a.b);
  check_same("mul backward", a.a, a.dy);
  if (a.da) check_same("mul backward", a.a, a.da);
  if (a.db) check_same("mul backward", a.b, a.db);
  with_float(a.dy.dtype, "mul backward", [&]<class T>(T) {
    if (a.da) multiply<T>(launch, a.dy, a.b, a.da);
    if (!a.db) return;
    if (!per_channel(a.a, a.b)) return multiply<T>(launch, a.dy, a.a, a.db);
    const Shape& s = a.a.shape;
    if (s.c == 0) return;
    with_width<T>({a.a, a.dy}, Tails::handled, [&](auto width) {
      using Sums = SumProducts<width, T>;
      const std::int64_t groups = (s.c + Sums::kChannels - 1) / Sums::kChannels;
      launch.blocks(s.n * groups, Sums{plane<T>(a.a), plane<T>(a.dy), plane<T>(a.db), s.h * s.w, s.c, Divider(groups)});
    });
  });
}

template <class Launch>
void activation_forward(const Launch& launch, const ActivationForward& a) {
  check_same("activation", a.x, a.y);
  with_float(a.x.dtype, "activation", [&]<class T>(T) { unary<T, T>(launch, a.x, a.y, Activate{a.activation}); });
}

template <class Launch>
void activation_backward(const Launch& launch, const ActivationBackward& a) {
  check_same("activation backward", a.x, a.dy);
  check_same("activation backward", a.x, a.dx);
  with_float(a.x.dtype, "activation backward",
             [&]<class T>(T) { binary<T>(launch, a.x, a.dy, a.dx, ActivateBackward{a.activation}); });
}

/// Pixel (n, h, w) of y is pixel (n, h - top, w - left) of x, or 0 outside of it. A crop has negative offsets. Lower bound:
/// reads what y takes of x once, writes y once.
template <int width, class T>
struct Shift {
  Items items;
  Pixels pixels;  // of y
  Plane<const T> x;
  Plane<T> y;
  std::int64_t top, left;
  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [n, row, column] = pixels.at(at.pixel);
    const std::int64_t h = row - top, w = column - left;
    T* to = y.pixel(at.pixel) + at.channel;
    if (h >= 0 && h < x.h && w >= 0 && w < x.w)
      move<width>(x.pixel(n, h, w) + at.channel, to, at.count);
    else
      fill<width>(to, T{}, at.count);
  }
};

template <class Launch>
void shift(const Launch& launch, const ConstView& x, const View& y, int top, int left) {
  with_bits(x.dtype, [&]<class T>(T) {
    over_vectors<T>(launch, {x, y}, y.shape, [&](auto width, const Items& items) {
      return Shift<width, T>{items, Pixels(y.shape), plane<T>(x), plane<T>(y), top, left};
    });
  });
}
template <class Launch>
void zero_pad_forward(const Launch& launch, const ZeroPad& a) {
  check_pad(a.x, a.y, a);
  shift(launch, a.x, a.y, a.top, a.left);
}
template <class Launch>
void zero_pad_backward(const Launch& launch, const ZeroPad& a) {
  check_pad(a.y, a.x, a);
  shift(launch, a.x, a.y, -a.top, -a.left);
}

/// Four pixels of the wide view, block number = row parity + 2 * column parity, are the four blocks of channels of one
/// pixel of the deep view. An item is `width` channels of one block. Lower bound: reads one view once, writes the other
/// once.
template <int width, class T, bool gather>
struct Rearrange {
  Items items;    // of the wide view's channels, in the deep view's order
  Pixels pixels;  // of the deep view
  Plane<std::conditional_t<gather, const T, T>> wide;
  Plane<std::conditional_t<gather, T, const T>> deep;
  std::int64_t channels;
  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const std::int64_t pixel = at.pixel / 4, block = at.pixel % 4;
    const auto [n, h, w] = pixels.at(pixel);
    auto* spread = wide.pixel(n, 2 * h + block % 2, 2 * w + block / 2) + at.channel;
    auto* stacked = deep.pixel(pixel) + block * channels + at.channel;
    if constexpr (gather)
      move<width>(spread, stacked, at.count);
    else
      move<width>(stacked, spread, at.count);
  }
};

template <bool gather, class Launch, class Wide, class Deep>
void rearrange(const Launch& launch, const Wide& wide, const Deep& deep) {
  check_depth(wide, deep);
  with_bits(wide.dtype, [&]<class T>(T) {
    // Blocks begin at multiples of the wide view's channels: those have to be whole vectors as well.
    with_width<T>({wide, deep}, Tails::none, [&](auto width) {
      const Items items({1, 1, 4 * deep.shape.pixels(), wide.shape.c}, width);
      launch.items(items.count(),
                   Rearrange<width, T, gather>{items, Pixels(deep.shape), plane<T>(wide), plane<T>(deep), wide.shape.c});
    });
  });
}
template <class Launch>
void space_to_depth(const Launch& launch, const SpaceToDepth& a) {
  rearrange<true>(launch, a.x, a.y);
}
template <class Launch>
void depth_to_space(const Launch& launch, const DepthToSpace& a) {
  rearrange<false>(launch, a.y, a.x);
}

template <class Launch>
void normalize_image(const Launch& launch, const NormalizeImage& a) {
  check_image(a);
  with_float(a.y.dtype, "normalize image", [&]<class T>(T) { unary<std::uint8_t, T>(launch, a.x, a.y, ImageValue{}); });
}

}  // namespace frost::cuda
