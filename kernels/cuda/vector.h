#pragma once
#include <cstdint>

#include "kernels/math/half.h"

/// Before a loop over lanes, whose values are to stay in registers.
#if defined(__CUDA_ARCH__)
#define FROST_UNROLL _Pragma("unroll")
#else
#define FROST_UNROLL
#endif

/// `width` neighbouring values read or written with one access of up to 16 bytes, as float lanes. The address has to be
/// aligned to the whole access (launch.h: vector_width). Compiles for the host as well, where tests run the same code.
namespace frost::cuda {

/// Bits that move together; alignas makes nvcc emit one access of that size.
template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
  T lane[width];
};

template <int width, class T = float>
struct Lanes {
  T lane[width];
  FROST_HD T& operator[](int j) { return lane[j]; }
  FROST_HD const T& operator[](int j) const { return lane[j]; }
};

template <int width, class T>
FROST_HD Pack<T, width> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, width>*>(from);
}
template <int width, class T>
FROST_HD void store_pack(T* to, const Pack<T, width>& pack) {
  *reinterpret_cast<Pack<T, width>*>(to) = pack;
}

FROST_HD float to_lane(std::uint8_t byte) { return byte; }
template <class T>
FROST_HD float to_lane(T value) {
  return math::to_float(value);
}

template <int width, class T>
FROST_HD Lanes<width> load(const T* from) {
  const auto pack = load_pack<width>(from);
  Lanes<width> lanes;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) lanes[j] = to_lane(pack.lane[j]);
  return lanes;
}
template <int width, class T>
FROST_HD void store(T* to, const Lanes<width>& lanes) {
  Pack<T, width> pack;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) pack.lane[j] = math::from_float<T>(lanes[j]);
  store_pack<width>(to, pack);
}

/// The first `count` lanes, one by one where a pixel's tail is shorter than the width; the lanes beyond are 0.
template <int width, class T>
FROST_HD Lanes<width> load(const T* from, int count) {
  if (count == width) return load<width>(from);
  Lanes<width> lanes;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) lanes[j] = j < count ? to_lane(from[j]) : 0.0f;
  return lanes;
}
template <int width, class T>
FROST_HD void store(T* to, const Lanes<width>& lanes, int count) {
  if (count == width) return store<width>(to, lanes);
  FROST_UNROLL
  for (int j = 0; j < width; ++j)
    if (j < count) to[j] = math::from_float<T>(lanes[j]);
}

/// Values that are only moved.
template <int width, class T>
FROST_HD void move(const T* from, T* to, int count) {
  if (count == width) return store_pack<width>(to, load_pack<width>(from));
  FROST_UNROLL
  for (int j = 0; j < width; ++j)
    if (j < count) to[j] = from[j];
}
template <int width, class T>
FROST_HD void clear(T* to, int count) {
  if (count == width) return store_pack<width>(to, Pack<T, width>{});
  FROST_UNROLL
  for (int j = 0; j < width; ++j)
    if (j < count) to[j] = T{};
}

}  // namespace frost::cuda
