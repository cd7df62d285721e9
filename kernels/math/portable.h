#pragma once
#include <cmath>
#include <cstdint>

/// Marks the formulas that the CPU's loops and the CUDA kernels share.
#if defined(__CUDACC__)
#define FROST_HD __host__ __device__ __forceinline__
#else
#define FROST_HD inline
#endif
