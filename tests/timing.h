#pragma once
#include <algorithm>
#include <cstdio>
#include <ctime>

/// Measurements are test cases that are skipped unless asked for: `<test> -ns -tc='speed*'`.
namespace frost::timing {

/// Prints the milliseconds of this thread's processor time that one call takes: the best of several rounds, so that other
/// work on the machine counts little.
template <class Work>
double report(const char* what, Work work, int calls = 20, int rounds = 10) {
  const auto now = [] {
    std::timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
  };
  double best = 1e300;
  for (int r = 0; r < rounds; ++r) {
    const double start = now();
    for (int i = 0; i < calls; ++i) work();
    best = std::min(best, (now() - start) / calls);
  }
  std::printf("%-48s %8.3f ms\n", what, best);
  return best;
}

}  // namespace frost::timing
