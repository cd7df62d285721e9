#pragma once
#include "kernels/cuda/kernels/vector_access.cuh"

namespace frost::cuda {

/// Joins `count` values of each of a block's 256 threads in a fixed order: put() in one phase, fold() in the next, total()
/// for whichever threads want it in the one after that. `Join` is a sum unless something else is named.
struct Plus {
  template <class T>
  FROST_HD T operator()(T a, T b) const {
    return a + b;
  }
};
struct Largest {  // NaN never wins
  template <class T>
  FROST_HD T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

template <class T, int count, class Join = Plus>
struct BlockSum {
  static constexpr int kThreads = 256, kRows = 32;
  T part[count][kThreads], row[count][kRows];

  FROST_HD void put(int thread, const T (&values)[count]) {
    FROST_UNROLL
    for (int k = 0; k < count; ++k) part[k][thread] = values[k];
  }
  FROST_HD void fold(int thread) {
    if (thread >= kRows) return;
    for (int k = 0; k < count; ++k) {
      T joined = part[k][thread];
      for (int i = thread + kRows; i < kThreads; i += kRows) joined = Join{}(joined, part[k][i]);
      row[k][thread] = joined;
    }
  }
  FROST_HD T total(int k) const {
    T joined = row[k][0];
    for (int i = 1; i < kRows; ++i) joined = Join{}(joined, row[k][i]);
    return joined;
  }
};

/// What a block kernel of one sum is made of: each thread adds its share to a double, then `use` gets the total, in thread
/// 0.
struct BlockTotal {
  static constexpr int kThreads = 256, kPhases = 3;
  using Shared = BlockSum<double, 1>;
  struct Own {};
  template <int phase, class Add, class Use>
  FROST_HD static void total(int thread, Shared& shared, const Add& add, const Use& use) {
    if constexpr (phase == 0) {
      double sum[1] = {0};
      add(sum[0]);
      shared.put(thread, sum);
    } else if constexpr (phase == 1) {
      shared.fold(thread);
    } else if (thread == 0) {
      use(shared.total(0));
    }
  }
};

/// One block: use(the sum of `count` values), in an order that depends on the count alone. Lower bound: reads them once, one
/// at a time: a thousand or so.
template <class Use>
struct AddUp : BlockTotal {
  const double* values;
  std::int64_t count;
  Use use;

  template <int phase>
  FROST_HD void run(std::int64_t, int thread, Shared& shared, Own&) const {
    total<phase>(
        thread, shared,
        [&](double& sum) {
          for (std::int64_t i = thread; i < count; i += kThreads) sum += values[i];
        },
        use);
  }
};
template <class Launcher, class Use>
void add_up(const Launcher& launch, const double* values, std::int64_t count, const Use& use) {
  launch.blocks(1, AddUp<Use>{{}, values, count, use});
}

}  // namespace frost::cuda
