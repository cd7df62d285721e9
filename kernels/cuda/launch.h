#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "kernels/math/portable.h"
#include "kernels/view.h"

/// Launch geometry and vector widths: plain arithmetic on the host, tested without a GPU (tests/kernels/launch_test.cpp).
namespace frost::cuda {

inline constexpr int kThreads = 256;        // threads to a block of a kernel over items
inline constexpr int kVectorBytes = 16;     // the widest access of one thread
inline constexpr std::int64_t kMaxGrid = 2147483647;  // blocks along x: 2^31 - 1

/// Blocks for `items` that are walked with a grid stride: enough to give each thread one item, but no more than the device
/// runs at once a few times over. `most` is Context::most_blocks.
constexpr std::int64_t grid_size(std::int64_t items, std::int64_t most, int threads = kThreads) {
  const std::int64_t needed = items / threads + (items % threads != 0);
  return std::max<std::int64_t>(1, std::min({needed, most, kMaxGrid}));
}

/// Does every value start at a multiple of `width` elements, from pixel to pixel and within it?
inline bool aligned_to(const ConstView& v, int width) {
  const auto bytes = static_cast<std::uintptr_t>(width) * size_of(v.dtype);
  return reinterpret_cast<std::uintptr_t>(v.data) % bytes == 0 && v.pitch % width == 0 && v.shape.c % width == 0;
}

/// Neighbouring channels that one thread handles: the largest power of two, at most kVectorBytes of the widest type, by
/// which all the views' channels and pitches are divisible and to which their data is aligned. 1: scalar accesses. Views
/// that are empty do not count.
inline int vector_width(std::initializer_list<ConstView> views) {
  int width = kVectorBytes;
  for (const ConstView& v : views) {
    if (!v) continue;
    width = std::min(width, kVectorBytes / static_cast<int>(size_of(v.dtype)));
    while (width > 1 && !aligned_to(v, width)) width /= 2;
  }
  return width;
}

/// Without a remainder by a constant, i / d and i % d are the costliest part of a light kernel in 64 bits; in 32 bits they
/// are a tenth of it. Kernels take the index type that fits: 32 bits where every index is below 2^31.
constexpr bool fits_int32(std::int64_t items) { return items < (std::int64_t{1} << 31); }

/// Quotient and remainder of item i by the number of items in a pixel.
template <class Index>
struct Split {
  Index quotient, remainder;
};
template <class Index>
FROST_HD Split<Index> split(Index i, Index by) {
  const Index quotient = i / by;
  return {quotient, i - quotient * by};
}

}  // namespace frost::cuda
