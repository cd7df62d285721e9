#pragma once
#include "kernels/math/portable.h"

/// Integer atomics (those on floats would make results depend on the order); plain code on the host, where tests emulate
/// one thread after the other.
namespace frost::cuda {

FROST_HD std::int32_t atomic_exchange(std::int32_t* at, std::int32_t value) {
#if defined(__CUDA_ARCH__)
  return atomicExch(at, value);
#else
  const std::int32_t old = *at;
  *at = value;
  return old;
#endif
}

/// These return what was there before.
FROST_HD std::int32_t atomic_add(std::int32_t* at, std::int32_t value) {
#if defined(__CUDA_ARCH__)
  return atomicAdd(at, value);
#else
  const std::int32_t old = *at;
  *at += value;
  return old;
#endif
}
FROST_HD std::int32_t atomic_min(std::int32_t* at, std::int32_t value) {
#if defined(__CUDA_ARCH__)
  return atomicMin(at, value);
#else
  const std::int32_t old = *at;
  *at = value < old ? value : old;
  return old;
#endif
}

}  // namespace frost::cuda
