#pragma once
#include "kernels/cuda/vector.h"

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

}  // namespace frost::cuda
