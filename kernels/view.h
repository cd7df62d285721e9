#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <ostream>

#include "kernels/error.h"

namespace frost {

enum class DType : std::uint8_t { f32, bf16, f16, u8, i32, i64, f64 };

constexpr std::size_t size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}
constexpr const char* name_of(DType type) {
  switch (type) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
    case DType::u8:
      return "u8";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::f64:
      return "f64";
  }
  return "?";
}

/// Batch, rows, columns, channels. Memory order is NHWC everywhere: channels run fastest.
struct Shape {
  std::int64_t n = 1, h = 1, w = 1, c = 1;
  constexpr std::int64_t pixels() const { return n * h * w; }
  constexpr std::int64_t elements() const { return n * h * w * c; }
  auto operator<=>(const Shape&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << s.n << 'x' << s.h << 'x' << s.w << 'x' << s.c;
}

/// What a kernel reads: memory it does not own. `pitch` is the distance, in elements, between neighbouring pixels;
/// it is larger than shape.c where the view is a channel slice of a wider tensor.
struct ConstView {
  const void* data = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  std::int64_t pitch = 0;

  explicit operator bool() const { return data != nullptr; }
  bool packed() const { return pitch == shape.c; }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

/// What a kernel writes.
struct View {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  std::int64_t pitch = 0;

  explicit operator bool() const { return data != nullptr; }
  bool packed() const { return pitch == shape.c; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  operator ConstView() const { return {data, shape, dtype, pitch}; }
  /// Channels [first, first + count) of every pixel, in place.
  View channels(std::int64_t first, std::int64_t count) const {
    FROST_CHECK(first >= 0 && count >= 0 && first + count <= shape.c, "view: channels ", first, "+", count, " of ", shape.c);
    View slice = *this;
    slice.data = static_cast<char*>(data) + static_cast<std::size_t>(first) * size_of(dtype);
    slice.shape.c = count;
    return slice;
  }
};

/// A packed view on memory that holds `shape` values.
inline View packed_view(void* data, Shape shape, DType dtype = DType::f32) { return {data, shape, dtype, shape.c}; }
inline ConstView packed_view(const void* data, Shape shape, DType dtype = DType::f32) {
  return {data, shape, dtype, shape.c};
}

}  // namespace frost
