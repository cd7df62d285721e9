#pragma once
#include "kernels/checks.h"
#include "kernels/cuda/kernels/block_sum.cuh"
#include "kernels/cuda/kernels/vector_items.cuh"
#include "kernels/dispatch.h"
#include "kernels/elementwise.h"
#include "kernels/math/softmax.h"

/// Softmax and cross entropy over a launcher (kernel_launch.cuh): one block for each row, which is read again from the
/// cache. Sums are double, as the CPU's.
namespace frost::cuda {

/// A row in the vectors of a block's threads: use(first, count), with `count` values from `first` on.
template <int width, class Use>
FROST_HD void walk_row(int thread, std::int64_t values, const Use& use) {
  constexpr std::int64_t kStep = std::int64_t{kThreads} * width;
  for (std::int64_t first = std::int64_t{thread} * width; first < values; first += kStep)
    use(first, values - first < width ? static_cast<int>(values - first) : width);
}

/// The largest value of a row and the sum of e^(x - largest): phases 0 to 4, to be read from phase 5 on.
template <int width, class T>
struct RowScale {
  static constexpr int kThreads = cuda::kThreads;
  union Shared {  // the maxima are read for the last time in phase 2, the sums are written in phase 3
    BlockSum<float, 1, Largest> largest;
    BlockSum<double, 2> sums;
  };
  struct Own {
    float largest;
    double sums[2];
  };
  /// weight(j) times x[j] - largest goes into the second sum.
  template <int phase, class Weight>
  FROST_HD static void run(int thread, const T* x, std::int64_t values, const Weight& weight, Shared& shared, Own& own) {
    if constexpr (phase == 0) {
      float largest[1] = {-INFINITY};
      walk_row<width>(thread, values, [&](std::int64_t first, int count) {
        const auto lanes = load<width>(x + first, count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j)
          if (j < count) largest[0] = Largest{}(largest[0], lanes[j]);
      });
      shared.largest.put(thread, largest);
    } else if constexpr (phase == 1) {
      shared.largest.fold(thread);
    } else if constexpr (phase == 2) {
      own.largest = shared.largest.total(0);
      walk_row<width>(thread, values, [&](std::int64_t first, int count) {
        const auto lanes = load<width>(x + first, count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) {
          if (j >= count) continue;
          const float below = lanes[j] - own.largest;
          own.sums[0] += static_cast<double>(math::exp(below));
          own.sums[1] += static_cast<double>(weight(first + j)) * static_cast<double>(below);
        }
      });
    } else if constexpr (phase == 3) {
      shared.sums.put(thread, own.sums);
    } else if constexpr (phase == 4) {
      shared.sums.fold(thread);
    }
  }
};

/// Lower bound: reads x once, writes y once.
template <int width, class T>
struct SoftmaxY {
  using Scale = RowScale<width, T>;
  static constexpr int kThreads = Scale::kThreads, kPhases = 6;
  using Shared = typename Scale::Shared;
  using Own = typename Scale::Own;
  Plane<const T> x;
  Plane<T> y;
  std::int64_t values;
  bool log;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    const T* from = x.pixel(block);
    Scale::template run<phase>(
        thread, from, values, [](std::int64_t) { return 0.0f; }, shared, own);
    if constexpr (phase == 5) {
      const double sum = shared.sums.total(0);
      const auto scale = static_cast<float>(1.0 / sum), shift = static_cast<float>(std::log(sum));
      T* to = y.pixel(block);  // may be x: a thread reads a value before it writes it, nobody else reads it any more
      walk_row<width>(thread, values, [&](std::int64_t first, int count) {
        auto lanes = load<width>(from + first, count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) {
          const float below = lanes[j] - own.largest;
          lanes[j] = log ? below - shift : math::exp(below) * scale;
        }
        store(to + first, lanes, count);
      });
    }
  }
};

/// Lower bound: reads y and dy once, writes dx once.
template <int width, class T>
struct SoftmaxDx {
  static constexpr int kThreads = cuda::kThreads, kPhases = 3;
  using Shared = BlockSum<double, 1>;
  struct Own {};
  Plane<const T> y, dy;
  Plane<T> dx;
  std::int64_t values;
  bool log;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own&) const {
    const T *result = y.pixel(block), *gradient = dy.pixel(block);
    if constexpr (phase == 0) {
      double sum[1] = {0};
      walk_row<width>(thread, values, [&](std::int64_t first, int count) {
        const auto d = load<width>(gradient + first, count), value = load<width>(result + first, count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j)
          if (j < count) sum[0] += static_cast<double>(d[j]) * static_cast<double>(log ? 1.0f : value[j]);
      });
      shared.put(thread, sum);
    } else if constexpr (phase == 1) {
      shared.fold(thread);
    } else {
      const auto sum = static_cast<float>(shared.total(0));
      T* to = dx.pixel(block);
      walk_row<width>(thread, values, [&](std::int64_t first, int count) {
        auto d = load<width>(gradient + first, count);
        const auto value = load<width>(result + first, count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j)
          d[j] = log ? math::log_softmax_dx(value[j], d[j], sum) : math::softmax_dx(value[j], d[j], sum);
        store(to + first, d, count);
      });
    }
  }
};

/// The loss of each row, and dlogits. Lower bound: reads the logits once, writes dlogits once.
template <int width>
struct CrossEntropyRows {
  using Scale = RowScale<width, float>;
  static constexpr int kThreads = Scale::kThreads, kPhases = 6;
  using Shared = typename Scale::Shared;
  using Own = typename Scale::Own;
  CrossEntropy a;
  double* losses;  // (rows)

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    const float *x = a.logits + block * a.classes, classes = static_cast<float>(a.classes), smoothing = a.label_smoothing;
    const std::int64_t label = a.labels[block];
    const auto target = [=](std::int64_t j) { return math::smooth_target(j == label, smoothing, classes); };
    Scale::template run<phase>(thread, x, a.classes, target, shared, own);
    if constexpr (phase == 5) {
      const double sum = shared.sums.total(0);
      const bool possible = label >= 0 && label < a.classes;
      if (thread == 0)  // the targets of a row sum to 1: loss = log sum e^x - sum of target * x
        losses[block] = possible ? std::log(sum) - shared.sums.total(1) : static_cast<double>(NAN);
      if (!a.dlogits) return;
      const float scale = a.grad_scale ? *a.grad_scale : 1.0f;
      const auto share = static_cast<float>(1.0 / sum), weight = scale / static_cast<float>(a.rows);
      float* d = a.dlogits + block * a.classes;
      walk_row<width>(thread, a.classes, [&](std::int64_t first, int count) {
        auto lanes = load<width>(x + first, count);
        FROST_UNROLL
        for (int j = 0; j < width; ++j) lanes[j] = weight * (math::exp(lanes[j] - own.largest) * share - target(first + j));
        store(d + first, lanes, count);
      });
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
  with_float(a.x.dtype, "softmax", [&]<class T>(T) {
    with_width<T>({a.x, a.y}, Tails::handled, [&](auto width) {
      launch.blocks(a.x.shape.pixels(), SoftmaxY<width, T>{plane<T>(a.x), plane<T>(a.y), a.x.shape.c, a.log});
    });
  });
}

template <class Launcher>
void softmax_backward(const Launcher& launch, const SoftmaxBackward& a) {
  check_same("softmax backward", a.y, a.dy);
  check_same("softmax backward", a.y, a.dx);
  with_float(a.y.dtype, "softmax backward", [&]<class T>(T) {
    with_width<T>({a.y, a.dy, a.dx}, Tails::handled, [&](auto width) {
      launch.blocks(a.y.shape.pixels(),
                    SoftmaxDx<width, T>{plane<T>(a.y), plane<T>(a.dy), plane<T>(a.dx), a.y.shape.c, a.log});
    });
  });
}

/// The labels are in the device's memory: one that is no class makes the loss NaN.
template <class Launcher>
void cross_entropy(const Launcher& launch, const CrossEntropy& a) {
  FROST_CHECK(a.rows > 0 && a.classes > 0, "cross entropy: ", a.rows, " rows of ", a.classes, " classes");
  auto* losses = static_cast<double*>(launch.scratch(static_cast<std::size_t>(a.rows) * sizeof(double)));
  const Shape rows{a.rows, 1, 1, a.classes};
  with_width<float>({packed_view(a.logits, rows), packed_view(a.dlogits, rows)}, Tails::handled, [&](auto width) {
    launch.blocks(a.rows, CrossEntropyRows<width>{a, losses});
  });
  add_up(launch, losses, a.rows, MeanLoss{a.loss, a.rows});
}

}  // namespace frost::cuda
