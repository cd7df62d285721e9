#pragma once
#include "kernels/cuda/kernels/vector_items.cuh"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/math/dropout.h"

/// Dropout over a launcher (kernel_launch.cuh).
namespace frost::cuda {

/// Lower bound: reads x once, writes y once.
template <int width, class T>
struct DropoutItem {
  Items items;
  Plane<const T> x;
  Plane<T> y;
  std::int64_t channels;
  float p;
  std::uint64_t seed;
  const std::uint64_t* step_seed;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const std::uint64_t stream = math::dropout_stream(seed, step_seed);
    const auto element = static_cast<std::uint64_t>(at.pixel * channels + at.channel);
    auto lanes = load<width>(x.pixel(at.pixel) + at.channel, at.count);
    FROST_UNROLL
    for (int j = 0; j < width; ++j) lanes[j] = math::dropout(lanes[j], p, stream, element + static_cast<std::uint64_t>(j));
    store(y.pixel(at.pixel) + at.channel, lanes, at.count);
  }
};

template <class Launcher>
void run_dropout(const Launcher& launch, const Dropout& a) {
  FROST_CHECK(a.x.shape == a.y.shape && a.x.dtype == a.y.dtype, "dropout: ", a.x.shape, " ", name_of(a.x.dtype), " and ",
              a.y.shape, " ", name_of(a.y.dtype), " differ");
  FROST_CHECK(a.p >= 0 && a.p < 1, "dropout: p is ", a.p, ", expected 0 <= p < 1");
  const Flat flat{a.x, a.y};  // an element's number in the row is its number in the map
  const ConstView x = flat(a.x);
  const View y = flat(a.y);
  with_float(a.x.dtype, "dropout", [&]<class T>(T) {
    over_vectors<T>(launch, {x, y}, y.shape, [&](auto width, const Items& items) {
      return DropoutItem<width, T>{items, plane<T>(x), plane<T>(y), y.shape.c, a.p, a.seed, a.step_seed};
    });
  });
}

}  // namespace frost::cuda
