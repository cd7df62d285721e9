#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/math/dropout.h"

/// Dropout over a launcher (run.h).
namespace frost::cuda {

/// Item i: one element. Dropout stands between small vectors of a classifier's head, where wide accesses gain nothing.
/// Floor: reads x once, writes y once.
template <class T>
struct DropoutItem {
  const T* x;
  T* y;
  std::int64_t x_pitch, y_pitch, channels;
  float p;
  std::uint64_t seed;
  const std::uint64_t* step_seed;

  FROST_HD void operator()(std::int64_t i) const {
    const auto [pixel, c] = split(i, channels);
    const std::uint64_t stream = math::dropout_stream(seed, step_seed);
    const float value = math::to_float(x[pixel * x_pitch + c]);
    y[pixel * y_pitch + c] = math::from_float<T>(math::dropout(value, p, stream, static_cast<std::uint64_t>(i)));
  }
};

template <class Launcher>
void run_dropout(const Launcher& launch, const Dropout& a) {
  FROST_CHECK(a.x.shape == a.y.shape && a.x.dtype == a.y.dtype, "dropout: ", a.x.shape, " ", name_of(a.x.dtype), " and ",
              a.y.shape, " ", name_of(a.y.dtype), " differ");
  FROST_CHECK(a.p >= 0 && a.p < 1, "dropout: p is ", a.p, ", expected 0 <= p < 1");
  with_float(a.x.dtype, "dropout", [&]<class T>(T) {
    launch.items(a.x.shape.elements(),
                 DropoutItem<T>{a.x.as<T>(), a.y.as<T>(), a.x.pitch, a.y.pitch, a.x.shape.c, a.p, a.seed, a.step_seed});
  });
}

}  // namespace frost::cuda
