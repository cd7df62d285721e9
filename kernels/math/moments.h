#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// Mean of some values and the sum of their squared distances from it: what stays exact where the mean is far from 0 and a
/// plain sum of squares would cancel (Welford 1962; Chan, Golub, LeVeque 1979).
template <class T>
struct Moments {
  T mean, squares;
};

/// Takes one more value in; `inverse_count` is 1 over the number of values that it makes.
template <class T>
FROST_HD void take(Moments<T>& m, T value, T inverse_count) {
  const T distance = value - m.mean;
  m.mean += distance * inverse_count;
  m.squares += distance * (value - m.mean);
}

/// The moments of both parts together; count is a's, share is b's part of all values.
template <class T>
FROST_HD Moments<T> merged(Moments<T> a, T count, Moments<T> b, T share) {
  const T distance = b.mean - a.mean;
  return {a.mean + distance * share, a.squares + b.squares + distance * distance * count * share};
}

}  // namespace frost::math
