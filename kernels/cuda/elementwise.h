#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vector.h"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"

/// The elementwise primitives over a launcher (run.h): what elementwise.cu queues and what the tests walk on the host.
namespace frost::cuda {

/// Item i: `width` channels of one pixel. Floor: reads a and b once, writes y once.
template <class T, int width, class Index>
struct Add {
  const T *a, *b;
  T* y;
  Index a_pitch, b_pitch, y_pitch;
  Index items;  // to a pixel

  FROST_HD void operator()(std::int64_t i) const {
    const auto [pixel, item] = split(static_cast<Index>(i), items);
    const Index c = item * width;
    const Lanes<width> left = load<width>(a + pixel * a_pitch + c), right = load<width>(b + pixel * b_pitch + c);
    Lanes<width> sum;
    FROST_UNROLL
    for (int j = 0; j < width; ++j) sum[j] = left[j] + right[j];
    store(y + pixel * y_pitch + c, sum);
  }
};

}  // namespace frost::cuda
