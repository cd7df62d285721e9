#pragma once
#include <cstdint>

#include "kernels/cuda/kernels/launch.cuh"
#include "kernels/math/half.h"

/// Before a loop over lanes, whose values are to stay in registers.
#if defined(__CUDA_ARCH__)
#define FROST_UNROLL _Pragma("unroll")
#else
#define FROST_UNROLL
#endif

/// `width` neighbouring values read or written with one access of up to 16 bytes, as float lanes. The address has to be
/// aligned to the whole access (launch.cuh: access_width). Compiles for the host as well, where tests run the same code.
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

/// The first `count` values, one by one where a pixel's tail is shorter than the width; the lanes beyond are 0, and are not
/// written.
template <int width, class T>
FROST_HD Pack<T, width> load_pack(const T* from, int count) {
  if (width > 1 && count == width) return load_pack<width>(from);
  Pack<T, width> pack;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) pack.lane[j] = j < count ? from[j] : T{};
  return pack;
}
template <int width, class T>
FROST_HD void store_pack(T* to, const Pack<T, width>& pack, int count) {
  if (width > 1 && count == width) return store_pack<width>(to, pack);
  FROST_UNROLL
  for (int j = 0; j < width; ++j)
    if (j < count) to[j] = pack.lane[j];
}

FROST_HD float to_lane(std::uint8_t byte) { return byte; }
template <class T>
FROST_HD float to_lane(T value) {
  return math::to_float(value);
}
template <int width, class T>
FROST_HD Lanes<width> lanes_of(const Pack<T, width>& pack) {
  Lanes<width> lanes;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) lanes[j] = to_lane(pack.lane[j]);
  return lanes;
}
template <class T, int width>
FROST_HD Pack<T, width> pack_of(const Lanes<width>& lanes) {
  Pack<T, width> pack;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) pack.lane[j] = math::from_float<T>(lanes[j]);
  return pack;
}

template <int width, class T>
FROST_HD Lanes<width> load(const T* from) {
  return lanes_of(load_pack<width>(from));
}
template <int width, class T>
FROST_HD void store(T* to, const Lanes<width>& lanes) {
  store_pack(to, pack_of<T>(lanes));
}
template <int width, class T>
FROST_HD Lanes<width> load(const T* from, int count) {
  return lanes_of(load_pack<width>(from, count));
}
template <int width, class T>
FROST_HD void store(T* to, const Lanes<width>& lanes, int count) {
  store_pack(to, pack_of<T>(lanes), count);
}

/// Values that are only moved.
template <int width, class T>
FROST_HD void move(const T* from, T* to, int count) {
  store_pack(to, load_pack<width>(from, count), count);
}
template <int width, class T>
FROST_HD void fill(T* to, T value, int count) {
  Pack<T, width> pack;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) pack.lane[j] = value;
  store_pack(to, pack, count);
}

/// `count` values of a channel vector from `first` on, a multiple of the width; `missing` beyond, and where there is no
/// vector. In fours where it is aligned: neighbouring threads are `width` values apart, so that single values would cost as
/// many sectors as the pixels do.
template <int width>
FROST_HD Lanes<width> channel_values(const float* values, std::int64_t first, float missing, int count = width) {
  Lanes<width> out;
  if constexpr (width % 4 == 0) {
    if (values && count == width && aligned(values)) {
      FROST_UNROLL
      for (int j = 0; j < width; j += 4) {
        const auto four = load_pack<4>(values + first + j);
        FROST_UNROLL
        for (int k = 0; k < 4; ++k) out[j + k] = four.lane[k];
      }
      return out;
    }
  }
  FROST_UNROLL
  for (int j = 0; j < width; ++j) out[j] = values && j < count ? values[first + j] : missing;
  return out;
}

}  // namespace frost::cuda
