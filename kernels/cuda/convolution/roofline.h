#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/view.h"

/// The upper limits of a device's speed, with which measured times are compared.
namespace frost::cuda {

struct DeviceRates {
  double flops16 = 0, flops_tf32 = 0, flops32 = 0;  // dense, a multiply-add counts twice
  double bytes = 0;                                 // of device memory a second

  double flops(DType type, bool tf32) const { return type != DType::f32 ? flops16 : tf32 ? flops_tf32 : flops32; }
};

/// From the driver's numbers; `capability`: 90 for 9.0. Operations per clock of a multiprocessor: NVIDIA's white papers of
/// Volta, Turing, Ampere, Hopper and Blackwell. An H100 SXM (132 multiprocessors at 1.83 GHz): 989 TFLOP/s, 3.35 TB/s.
inline DeviceRates device_rates(int capability, int multiprocessors, double clock_hz, double memory_clock_hz,
                                int memory_bus_bits) {
  const double half = capability >= 100 ? 8192 : capability >= 90 ? 4096 : capability == 80 ? 2048 : 1024;
  const double single = capability <= 80 ? 128 : 256;
  const double scale = multiprocessors * clock_hz;
  return {half * scale, half / 2 * scale, single * scale, 2 * memory_clock_hz * memory_bus_bits / 8};
}

/// Seconds that `flops` and `bytes` take at least: the slower of the two, and no kernel takes less than some microseconds.
inline double roofline_seconds(const DeviceRates& rates, DType type, bool tf32, double flops, double bytes) {
  constexpr double kLaunch = 4e-6;
  return std::max({flops / rates.flops(type, tf32), bytes / rates.bytes, kLaunch});
}

}  // namespace frost::cuda
