#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/math/portable.h"
#include "kernels/view.h"

/// Launch geometry, vector widths and index arithmetic: plain code, tested without a GPU (tests/kernels/launch_test.cpp).
namespace frost::cuda {

inline constexpr int kThreads = 256;                  // threads to a block of a kernel over items
inline constexpr int kVectorBytes = 16;               // the widest access of one thread
inline constexpr std::int64_t kMaxGrid = 2147483647;  // blocks along x: 2^31 - 1

/// Blocks for `items` in a loop with a grid stride: enough to give each thread one item, but no more than `most`
/// (Context::most_blocks: what the device runs at once, a few times over).
constexpr std::int64_t grid_size(std::int64_t items, std::int64_t most, int threads = kThreads) {
  const std::int64_t needed = items / threads + (items % threads != 0);
  return std::max<std::int64_t>(1, std::min({needed, most, kMaxGrid}));
}

/// Does an access of that many bytes begin at this address?
FROST_HD bool aligned(const void* address, std::uintptr_t bytes = kVectorBytes) {
  return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}

/// Does a kernel handle what is left of a pixel after its last whole vector (Items)?
enum class Tails { handled, none };

/// The decision of every kernel, 16 bytes an access or one value: kVectorBytes of the widest type where all views' addresses
/// and pitches (and, where tails are not handled, channels) are multiples of the access, else 1. Views that are empty do not
/// count. (Widths between the two would double the code for views that models do not have.)
inline int access_width(std::initializer_list<ConstView> views, Tails tails = Tails::handled) {
  int width = kVectorBytes;
  for (const ConstView& v : views)
    if (v) width = std::min(width, kVectorBytes / static_cast<int>(size_of(v.dtype)));
  for (const ConstView& v : views) {
    if (!v) continue;
    const bool fits = aligned(v.data, static_cast<std::uintptr_t>(width) * size_of(v.dtype)) && v.pitch % width == 0;
    if (!fits || (tails == Tails::none && v.shape.c % width != 0)) return 1;
  }
  return width;
}

/// use(std::integral_constant<int, access_width>{}). T: the widest of the views' types.
template <class T, class Use>
void with_width(std::initializer_list<ConstView> views, Tails tails, const Use& use) {
  constexpr int kWide = kVectorBytes / static_cast<int>(sizeof(T));
  const int width = std::min(access_width(views, tails), kWide);
  if (width == kWide) return use(std::integral_constant<int, kWide>{});
  FROST_CHECK(width == 1, "a vector width of ", width, " values of ", sizeof(T), " bytes");
  use(std::integral_constant<int, 1>{});
}

constexpr bool fits_int32(std::int64_t items) { return items < (std::int64_t{1} << 31); }

struct Split {
  std::int64_t quotient, remainder;
};

/// Division by a number that is known at launch: a multiplication and a shift for dividends below 2^31 (exact: the
/// rounded-up reciprocal's error stays below 2^-31; Granlund and Montgomery 1994), the 64-bit division above. That one is
/// some 70 instructions, the costliest part of a light kernel.
class Divider {
 public:
  explicit Divider(std::int64_t divisor = 1) : divisor_(divisor) {
    FROST_CHECK(divisor > 0, "division by ", divisor);
    if (divisor >= kLimit) return;
    while ((std::int64_t{1} << (shift_ - 31)) < divisor) ++shift_;
    reciprocal_ = static_cast<std::uint32_t>(((std::uint64_t{1} << shift_) + static_cast<std::uint64_t>(divisor) - 1) /
                                             static_cast<std::uint64_t>(divisor));
  }
  FROST_HD std::int64_t divisor() const { return divisor_; }
  FROST_HD std::int64_t quotient(std::int64_t n) const {
    if (n < kLimit && reciprocal_ != 0)
      return static_cast<std::int64_t>((static_cast<std::uint64_t>(static_cast<std::uint32_t>(n)) * reciprocal_) >> shift_);
    return n / divisor_;
  }

 private:
  static constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  std::int64_t divisor_;
  std::uint32_t reciprocal_ = 0;  // 0: the divisor is 2^31 or more
  int shift_ = 31;
};

/// Of n >= 0.
FROST_HD Split divide(std::int64_t n, const Divider& by) {
  const std::int64_t quotient = by.quotient(n);
  return {quotient, n - quotient * by.divisor()};
}

/// Item i of a kernel: `count` channels, at most the vector width, from `channel` on, of pixel number `pixel`.
struct Place {
  std::int64_t pixel, channel;
  int count;
};
/// Pixels cut into items of `width` channels; the last item of a pixel may be shorter.
class Items {
 public:
  Items(const Shape& shape, int width)
      : pixels_(shape.pixels()), channels_(shape.c), width_(width), each_((shape.c + width - 1) / width) {
    if (pixels_ == 0 || channels_ == 0) pixels_ = 0, each_ = 1;
    each_divider_ = Divider(each_);
  }
  std::int64_t count() const { return pixels_ * each_; }
  FROST_HD Place at(std::int64_t i) const {
    const auto [pixel, item] = divide(i, each_divider_);
    const std::int64_t channel = item * width_, rest = channels_ - channel;
    return {pixel, channel, rest < width_ ? static_cast<int>(rest) : width_};
  }

 private:
  std::int64_t pixels_, channels_;
  int width_;
  std::int64_t each_;
  Divider each_divider_;
};

/// The shape that an elementwise kernel loops over. Where all views are packed it is one long row, so that 3 channels need
/// no scalar accesses. Pitches are then the row's, too.
struct Flat {
  explicit Flat(std::initializer_list<ConstView> views) {
    for (const ConstView& v : views) packed = packed && (!v || v.packed());
  }
  bool packed = true;
  template <class V>
  V operator()(V view) const {
    if (!packed) return view;
    view.shape = {1, 1, 1, view.shape.elements()};
    view.pitch = (view.shape.c + kVectorBytes - 1) / kVectorBytes * kVectorBytes;  // one pixel: any pitch, an aligned one
    return view;
  }
};

/// Pixel number p of images of h x w: image, row, column.
struct PixelAt {
  std::int64_t n, h, w;
};
class Pixels {
 public:
  explicit Pixels(const Shape& shape)
      : rows_(std::max<std::int64_t>(1, shape.h)), columns_(std::max<std::int64_t>(1, shape.w)) {}
  FROST_HD PixelAt at(std::int64_t p) const {
    const auto [line, w] = divide(p, columns_);
    const auto [n, h] = divide(line, rows_);
    return {n, h, w};
  }

 private:
  Divider rows_, columns_;
};

/// Typed memory of a view: the start of pixel number p, and of pixel (n, h, w).
template <class T>
struct Plane {
  T* data;
  std::int64_t pitch, h, w;
  FROST_HD T* pixel(std::int64_t p) const { return data + p * pitch; }
  FROST_HD T* pixel(std::int64_t n, std::int64_t row, std::int64_t column) const {
    return data + ((n * h + row) * w + column) * pitch;
  }
};
template <class T>
Plane<const T> plane(const ConstView& v) {
  return {v.as<T>(), v.pitch, v.shape.h, v.shape.w};
}
template <class T>
Plane<T> plane(const View& v) {
  return {v.as<T>(), v.pitch, v.shape.h, v.shape.w};
}

}  // namespace frost::cuda
