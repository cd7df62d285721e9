#pragma once
#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace frost::cpu {

/// body(first, last) on disjoint ranges that cover [0, count). Ranges hold at least `grain` items, so small work stays on
/// one thread. The split depends on count, grain and the number of threads alone: same machine settings, same bits.
template <class Body>
void parallel_ranges(std::int64_t count, std::int64_t grain, Body&& body) {
  if (count <= 0) return;
  const std::int64_t most = std::max<std::int64_t>(1, count / std::max<std::int64_t>(1, grain));
  const int threads = static_cast<int>(std::min<std::int64_t>(omp_get_max_threads(), most));
  if (threads <= 1) {
    body(std::int64_t{0}, count);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t id = omp_get_thread_num(), parts = omp_get_num_threads();
    const std::int64_t first = count * id / parts, last = count * (id + 1) / parts;
    if (first < last) body(first, last);
  }
}

}  // namespace frost::cpu
