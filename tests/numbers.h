#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/base/rng.h"

/// What gradient checks need: values of order 1, and the scalar that a random upstream gradient makes of an output.
namespace frost::testing {

/// Uniform in [-1, 1).
inline std::vector<float> noise(std::size_t count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(rng.uniform(-1, 1));
  return values;
}

inline double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace frost::testing
