#pragma once
#include <cmath>
#include <cstdint>

namespace frost {

/// A small counter-seeded random stream (SplitMix64 seeding, xoshiro256** sequence). Every sample of a dataset has its own,
/// derived from (seed, epoch, index), so results do not depend on the number of loader threads.
class Rng {
 public:
  explicit Rng(std::uint64_t seed = 0) { reset(seed); }
  Rng(std::uint64_t seed, std::uint64_t epoch, std::uint64_t index) { reset(mix(mix(mix(seed) ^ epoch) ^ index)); }
  std::uint64_t next() {
    const std::uint64_t result = rotate(state_[1] * 5, 7) * 9, t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = rotate(state_[3], 45);
    return result;
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  std::int64_t below(std::int64_t count) {
    return static_cast<std::int64_t>(uniform() * static_cast<double>(count));
  }                  // [0, count)
  double normal() {  // Box-Muller, one of the pair
    const double u = 1.0 - uniform(), v = uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }
  static std::uint64_t mix(std::uint64_t z) {  // SplitMix64's finaliser
    z += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

 private:
  void reset(std::uint64_t seed) {
    for (auto& word : state_) word = seed = mix(seed);
  }
  static std::uint64_t rotate(std::uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
  std::uint64_t state_[4];
};

}  // namespace frost
