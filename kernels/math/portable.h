#pragma once
#include <cmath>
#include <cstdint>

/// Marks the formulas that the CPU's loops and the CUDA kernels share. Inlining is forced on the host as well: a call that
/// is left over in a loop keeps the loop from being vectorised, and would leave the instruction set that the loop was built
/// for.
#if defined(__CUDACC__)
#define FROST_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define FROST_HD [[gnu::always_inline]] inline
#else
#define FROST_HD inline
#endif

namespace frost::math {

/// The same bits read as another type of the same size.
template <class To, class From>
FROST_HD To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, value);
}

}  // namespace frost::math
