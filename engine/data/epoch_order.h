#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/rng.h"

namespace frost {

/// Threads that read images: cores / devices, the batch size (0 for batches of one) and `--workers`, whichever is least;
/// docs/spec/data.md section 10. 0: the calling thread reads.
inline int worker_count(int workers, int batch_size, int cuda_devices, int cores) {
  return std::max(0, std::min({cores / std::max(cuda_devices, 1), batch_size > 1 ? batch_size : 0, workers}));
}
/// ... on this machine, all of its cores for one process.
inline int worker_count(int workers, int batch_size) {
  return worker_count(workers, batch_size, 0, static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

/// The order in which an epoch takes a data set's positions: a permutation of 0 .. n - 1 that depends on (seed, epoch)
/// alone.
inline std::vector<std::int64_t> shuffled_order(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  constexpr std::uint64_t kShuffleStream = 0x5affULL << 32;  // apart from the streams of images, which have the same seed
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  Rng rng(seed, epoch, kShuffleStream);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(i)))]);
  return order;
}

/// The orders of the epochs in progress: the end of one and the beginning of the next may overlap.
class EpochOrders {
 public:
  using Order = std::shared_ptr<const std::vector<std::int64_t>>;
  EpochOrders(std::int64_t n, std::uint64_t seed) : n_(n), seed_(seed) {}
  Order of(std::int64_t epoch) {
    const std::lock_guard lock(mutex_);
    auto& [kept_epoch, order] = orders_[epoch % 2];
    if (!order || kept_epoch != epoch) {
      order =
          std::make_shared<const std::vector<std::int64_t>>(shuffled_order(n_, seed_, static_cast<std::uint64_t>(epoch)));
      kept_epoch = epoch;
    }
    return order;
  }

 private:
  std::int64_t n_;
  std::uint64_t seed_;
  std::mutex mutex_;
  std::pair<std::int64_t, Order> orders_[2];
};

}  // namespace frost
