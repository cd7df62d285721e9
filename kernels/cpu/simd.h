#pragma once
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kernels/cpu/parallel.h"
#include "kernels/math/portable.h"

/// Builds a loop for several instruction sets and picks one at run time: the binary is made for any x86-64 and still uses
/// AVX-512 where the machine has it. The loop is a lambda marked FROST_LOOP; being inlined by force into each of the
/// functions below, it is compiled once for each instruction set. (target_clones would be shorter, but can be put neither on
/// templates nor on lambdas, and features are named instead of arch=, since GCC inlines across those only.)
/// Inside, loops over neighbouring values are for_lanes.
#if defined(__GNUC__)
#define FROST_LOOP __attribute__((always_inline))
#else
#define FROST_LOOP
#endif

namespace frost::cpu {

enum class Isa { generic, avx2, avx512 };

/// What this machine can run; FROST_ISA=generic or avx2 (environment) selects less, so that tests can run every path.
inline Isa isa() {
  static const Isa found = [] {
    Isa best = Isa::generic;
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    const char* asked = std::getenv("FROST_ISA");
    const std::string_view limit = asked ? asked : "";
    if (limit != "generic" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      best = Isa::avx2;
      if (limit != "avx2" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        best = Isa::avx512;
    }
#endif
    return best;
  }();
  return found;
}

namespace detail {
template <class Body>
void run_generic(const Body& body, std::int64_t first, std::int64_t last) {
  body(first, last);
}
#if defined(__x86_64__) && defined(__GNUC__)
template <class Body>
__attribute__((target("avx2,fma"))) void run_avx2(const Body& body, std::int64_t first, std::int64_t last) {
  body(first, last);
}
template <class Body>
__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))) void run_avx512(
    const Body& body, std::int64_t first, std::int64_t last) {
  body(first, last);
}
#endif
}  // namespace detail

/// each(j) for j in [0, count) in vector code: the calls must not depend on each other. The body has to be a FROST_LOOP
/// lambda and not the text of the loop: GCC turns structs that are declared under `omp simd` itself into arrays, and gives
/// up on them.
template <class Each>
FROST_HD void for_lanes(std::int64_t count, const Each& each) {
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) each(j);
}

/// The sum of each(j), in double.
template <class Each>
FROST_HD double sum_of_lanes(std::int64_t count, const Each& each) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < count; ++j) sum += each(j);
  return sum;
}

/// body(first, last) in the widest vectors.
template <class Body>
void simd_range(std::int64_t first, std::int64_t last, const Body& body) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (isa() == Isa::avx512) return detail::run_avx512(body, first, last);
  if (isa() == Isa::avx2) return detail::run_avx2(body, first, last);
#endif
  detail::run_generic(body, first, last);
}

/// parallel_ranges in the widest vectors.
template <class Body>
void simd_ranges(std::int64_t count, std::int64_t grain, const Body& body) {
  parallel_ranges(count, grain, [&](std::int64_t first, std::int64_t last) { simd_range(first, last, body); });
}

}  // namespace frost::cpu
