#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace frost {

/// body(i) for every i in [0, count), each on whichever of `threads` threads is free (files differ too much in size for a
/// fixed split). `progress(done)` is called on the calling thread only. The first exception stops the work and is rethrown.
inline void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body,
                         const std::function<void(std::int64_t)>& progress = {}) {
  std::atomic<std::int64_t> next{0}, done{0};
  std::exception_ptr error;
  std::mutex mutex;
  const auto work = [&](bool report) {
    for (std::int64_t i; (i = next++) < count;) {
      try {
        body(i);
        const std::int64_t finished = ++done;
        if (report && progress) progress(finished);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::jthread> helpers;
  for (std::int64_t t = 1; t < std::min<std::int64_t>(threads, count); ++t) helpers.emplace_back(work, false);
  work(true);
  helpers.clear();  // joins
  if (error) std::rethrow_exception(error);
  if (progress) progress(count);
}

}  // namespace frost
