#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/launch.h"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/math/softmax.h"

/// Softmax and cross entropy over a launcher (run.h): one block for each row, which is read again from the cache. Floor:
/// reads x (or y and dy) once, writes y (or dx) once. Sums are double, as the CPU's.
namespace frost::cuda {

/// The largest value of a row and the sum of e^(x - largest): phases 0 to 3, to be read from phase 4 on.
struct RowScale {
  static constexpr int kThreads = 256;
  union Shared {  // the maxima are read for the last time in phase 2, the sums are written in phase 3
    BlockSum<float, 1, Largest> largest;
    BlockSum<double, 2> sums;
  };
  struct Own {
    float largest;
    double sums[2];
  };
  /// x(j) is value j of the row; weight(j) times x - largest goes into the second sum.
  template <int phase, class X, class Weight>
  FROST_HD static void run(int thread, std::int64_t count, const X& x, const Weight& weight, Shared& shared, Own& own) {
    if constexpr (phase == 0) {
      float largest[1] = {-INFINITY};
      for (std::int64_t j = thread; j < count; j += kThreads) largest[0] = Largest{}(largest[0], x(j));
      shared.largest.put(thread, largest);
    } else if constexpr (phase == 1) {
      shared.largest.fold(thread);
    } else if constexpr (phase == 2) {
      own.largest = shared.largest.total(0);
      for (std::int64_t j = thread; j < count; j += kThreads) {
        const float below = x(j) - own.largest;
        own.sums[0] += static_cast<double>(math::exp(below));
        own.sums[1] += static_cast<double>(weight(j)) * static_cast<double>(below);
      }
    } else if constexpr (phase == 3) {
      shared.sums.put(thread, own.sums);
    } else if constexpr (phase == 4) {
      shared.sums.fold(thread);
    }
  }
};

template <class T>
struct SoftmaxY {
  static constexpr int kThreads = RowScale::kThreads, kPhases = 6;
  using Shared = RowScale::Shared;
  using Own = RowScale::Own;
  const T* x;
  T* y;
  std::int64_t x_pitch, y_pitch, count;
  bool log;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    const T* from = x + block * x_pitch;
    RowScale::run<phase>(
        thread, count, [=](std::int64_t j) { return math::to_float(from[j]); }, [](std::int64_t) { return 0.0f; }, shared,
        own);
    if constexpr (phase == 5) {
      const double sum = shared.sums.total(0);
      const auto scale = static_cast<float>(1.0 / sum), shift = static_cast<float>(std::log(sum));
      T* to = y + block * y_pitch;  // may be x: a thread reads a value before it writes it, nobody else reads it any more
      for (std::int64_t j = thread; j < count; j += kThreads) {
        const float below = math::to_float(from[j]) - own.largest;
        to[j] = math::from_float<T>(log ? below - shift : math::exp(below) * scale);
      }
    }
  }
};

template <class T>
struct SoftmaxDx {
  static constexpr int kThreads = 256, kPhases = 3;
  using Shared = BlockSum<double, 1>;
  struct Own {};
  const T *y, *dy;
  T* dx;
  std::int64_t y_pitch, dy_pitch, dx_pitch, count;
  bool log;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own&) const {
    const T *values = y + block * y_pitch, *gradient = dy + block * dy_pitch;
    if constexpr (phase == 0) {
      double sum[1] = {0};
      for (std::int64_t j = thread; j < count; j += kThreads)
        sum[0] +=
            static_cast<double>(math::to_float(gradient[j])) * static_cast<double>(log ? 1.0f : math::to_float(values[j]));
      shared.put(thread, sum);
    } else if constexpr (phase == 1) {
      shared.fold(thread);
    } else {
      const auto sum = static_cast<float>(shared.total(0));
      T* to = dx + block * dx_pitch;
      for (std::int64_t j = thread; j < count; j += kThreads) {
        const float value = math::to_float(values[j]), d = math::to_float(gradient[j]);
        to[j] = math::from_float<T>(log ? math::log_softmax_dx(value, d, sum) : math::softmax_dx(value, d, sum));
      }
    }
  }
};

/// The loss of each row, and dlogits.
struct CrossEntropyRows {
  static constexpr int kThreads = RowScale::kThreads, kPhases = 6;
  using Shared = RowScale::Shared;
  using Own = RowScale::Own;
  CrossEntropy a;
  double* losses;  // (rows)

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    const float *x = a.logits + block * a.classes, classes = static_cast<float>(a.classes), smoothing = a.label_smoothing;
    const std::int64_t label = a.labels[block];
    const auto target = [=](std::int64_t j) { return math::smooth_target(j == label, smoothing, classes); };
    RowScale::run<phase>(
        thread, a.classes, [=](std::int64_t j) { return x[j]; }, target, shared, own);
    if constexpr (phase == 5) {
      const double sum = shared.sums.total(0);
      const bool possible = label >= 0 && label < a.classes;
      if (thread == 0)  // the targets of a row sum to 1: loss = log sum e^x - sum of target * x
        losses[block] = possible ? std::log(sum) - shared.sums.total(1) : static_cast<double>(NAN);
      if (!a.dlogits) return;
      const float scale = a.grad_scale ? *a.grad_scale : 1.0f;
      const auto share = static_cast<float>(1.0 / sum), weight = scale / static_cast<float>(a.rows);
      float* d = a.dlogits + block * a.classes;
      for (std::int64_t j = thread; j < a.classes; j += kThreads)
        d[j] = weight * (math::exp(x[j] - own.largest) * share - target(j));
    }
  }
};

struct MeanLoss {
  float* loss;
  std::int64_t rows;
  FROST_HD void operator()(double sum) const { *loss = static_cast<float>(sum / static_cast<double>(rows)); }
};

template <class Launcher>
void softmax_forward(const Launcher& launch, const SoftmaxForward& a) {
  check_same("softmax", a.x, a.y);
  with_float(a.x.dtype, "softmax", [&](auto type) {
    using T = decltype(type);
    launch.blocks(a.x.shape.pixels(), SoftmaxY<T>{a.x.as<T>(), a.y.as<T>(), a.x.pitch, a.y.pitch, a.x.shape.c, a.log});
  });
}

template <class Launcher>
void softmax_backward(const Launcher& launch, const SoftmaxBackward& a) {
  check_same("softmax backward", a.y, a.dy);
  check_same("softmax backward", a.y, a.dx);
  with_float(a.y.dtype, "softmax backward", [&](auto type) {
    using T = decltype(type);
    launch.blocks(a.y.shape.pixels(), SoftmaxDx<T>{a.y.as<T>(), a.dy.as<T>(), a.dx.as<T>(), a.y.pitch, a.dy.pitch,
                                                   a.dx.pitch, a.y.shape.c, a.log});
  });
}

/// The labels are in the device's memory: one that is no class makes the loss NaN.
template <class Launcher>
void cross_entropy(const Launcher& launch, const CrossEntropy& a) {
  FROST_CHECK(a.rows > 0 && a.classes > 0, "cross entropy: ", a.rows, " rows of ", a.classes, " classes");
  auto* losses = static_cast<double*>(launch.scratch(static_cast<std::size_t>(a.rows) * sizeof(double)));
  launch.blocks(a.rows, CrossEntropyRows{a, losses});
  add_up(launch, losses, a.rows, MeanLoss{a.loss, a.rows});
}

}  // namespace frost::cuda
