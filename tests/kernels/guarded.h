#pragma once
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/detect.h"
#include "kernels/math/half.h"
#include "kernels/view.h"

/// What the tests of the kernels share: views with guard zones, seeded random values, decoded rows by image.
namespace frost::testing {

/// A tensor inside a wider one: `before` and `after` channels stand beside each pixel's own, and a margin around the whole.
/// Everything outside of the view holds a pattern; intact() tells whether a kernel wrote there.
class Guarded {
 public:
  explicit Guarded(Shape shape, DType dtype = DType::f32, std::int64_t before = 0, std::int64_t after = 0)
      : shape_(shape),
        dtype_(dtype),
        before_(before),
        pitch_(before + shape.c + after),
        bytes_(static_cast<std::size_t>(shape.pixels() * pitch_ + 2 * kMargin) * size_of(dtype), kPattern) {}
  Guarded(Shape shape, const std::vector<float>& values, DType dtype = DType::f32, std::int64_t before = 0,
          std::int64_t after = 0)
      : Guarded(shape, dtype, before, after) {
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      const float v = values[static_cast<std::size_t>(i)];
      if (dtype == DType::f32)
        put(i, v);
      else if (dtype == DType::bf16)
        put(i, math::from_float<math::bf16>(v));
      else if (dtype == DType::f16)
        put(i, math::from_float<math::f16>(v));
      else
        put(i, static_cast<std::uint8_t>(v));
    }
  }
  View view() { return {bytes_.data() + offset(0), shape_, dtype_, pitch_}; }
  ConstView view() const { return const_cast<Guarded*>(this)->view(); }
  std::vector<float> values() const {
    std::vector<float> out(static_cast<std::size_t>(shape_.elements()));
    for (std::int64_t i = 0; i < shape_.elements(); ++i) {
      float& v = out[static_cast<std::size_t>(i)];
      if (dtype_ == DType::f32)
        v = get<float>(i);
      else if (dtype_ == DType::bf16)
        v = math::to_float(get<math::bf16>(i));
      else if (dtype_ == DType::f16)
        v = math::to_float(get<math::f16>(i));
      else
        v = get<std::uint8_t>(i);
    }
    return out;
  }
  bool intact() const {
    std::vector<bool> own(bytes_.size());
    for (std::int64_t i = 0; i < shape_.elements(); ++i)
      for (std::size_t b = 0; b < size_of(dtype_); ++b) own[offset(i) + b] = true;
    for (std::size_t b = 0; b < bytes_.size(); ++b)
      if (!own[b] && bytes_[b] != kPattern) return false;
    return true;
  }

 private:
  static constexpr std::int64_t kMargin = 64;
  static constexpr std::uint8_t kPattern = 0xa5;
  std::size_t offset(std::int64_t i) const {
    return static_cast<std::size_t>(kMargin + i / shape_.c * pitch_ + before_ + i % shape_.c) * size_of(dtype_);
  }
  template <class T>
  void put(std::int64_t i, T v) {
    std::memcpy(bytes_.data() + offset(i), &v, sizeof v);
  }
  template <class T>
  T get(std::int64_t i) const {
    T v;
    std::memcpy(&v, bytes_.data() + offset(i), sizeof v);
    return v;
  }
  Shape shape_;
  DType dtype_;
  std::int64_t before_, pitch_;
  std::vector<std::uint8_t> bytes_;
};

/// Channels to stand after a Guarded's own (and 8 or none before) so that its pixels begin at whole vectors, whatever the
/// type.
inline std::int64_t to_whole_vectors(std::int64_t channels) { return (8 - channels % 8) % 8; }

/// Normal values from a fixed seed.
inline std::vector<float> randoms(std::int64_t count, unsigned seed, float mean = 0, float deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (auto& v : values) v = normal(engine);
  return values;
}
/// Of rows in the host's memory: a flat vector an image.
inline std::vector<std::vector<float>> by_image(const DecodedRows& rows, std::int64_t classes) {
  std::vector<std::vector<float>> images;
  const float* first = rows.data();
  for (const std::int64_t count : rows.counts) {
    const float* last = first + count * (5 + classes);
    images.emplace_back(first, last);
    first = last;
  }
  return images;
}
inline std::vector<float> rounded(std::vector<float> values, DType dtype) {
  if (dtype == DType::bf16)
    for (auto& v : values) v = math::to_float(math::from_float<math::bf16>(v));
  if (dtype == DType::f16)
    for (auto& v : values) v = math::to_float(math::from_float<math::f16>(v));
  return values;
}

}  // namespace frost::testing
