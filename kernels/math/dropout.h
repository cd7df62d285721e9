#pragma once
#include <cstdint>

#include "kernels/math/portable.h"

/// Dropout without a stored mask: whether element i of a stream is kept is computed from (seed, i), so backward, another
/// device and another order of elements make the same choice.
namespace frost::math {

/// SplitMix64's output number i of a seed, its upper 24 bits as a fraction in [0, 1).
FROST_HD float uniform_at(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  z = z ^ (z >> 31);
  return static_cast<float>(z >> 40) * 0x1p-24f;
}

/// The stream of a layer in a step: both numbers are well mixed already.
FROST_HD std::uint64_t dropout_stream(std::uint64_t layer, const std::uint64_t* step) {
  return step ? layer ^ *step : layer;
}

/// Element i is dropped with probability p; what is kept grows by 1 / (1 - p), so that the expected value stays.
FROST_HD float dropout(float x, float p, std::uint64_t seed, std::uint64_t i) {
  return uniform_at(seed, i) < p ? 0.0f : x / (1.0f - p);
}

}  // namespace frost::math
