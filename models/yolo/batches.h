#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "models/yolo/dataset.h"

namespace frost::yolo {

/// What a network trains or is validated on in one step.
struct DetectionBatch {
  std::int64_t n = 0, h = 0, w = 0;
  std::vector<std::uint8_t> pixels;   // (n, h, w, 3) R G B; the buffer is recycled and may be longer than that
  std::vector<float> targets;         // (target_count, 6): image in this batch, class, x, y, w, h as fractions
  std::vector<std::int64_t> indices;  // (n) of the data set's images; where mosaics are made, of the first tile
  std::vector<std::string> paths;     // (n)
  std::vector<ItemInfo> infos;        // (n)
  std::vector<Item> items;            // scratch of collation

  std::int64_t target_count() const { return static_cast<std::int64_t>(targets.size() / 6); }
  std::size_t bytes() const { return static_cast<std::size_t>(n * h * w * 3); }
  std::uint8_t* image(std::int64_t i) { return pixels.data() + i * h * w * 3; }
  const std::uint8_t* image(std::int64_t i) const { return pixels.data() + i * h * w * 3; }
};

using DetectionLoader = Loader<DetectionBatch>;

/// Threads that read images: cores / devices, the batch size (0 for batches of one) and `--workers`, whichever is least;
/// spec data.md section 10. 0: the calling thread reads.
int worker_count(int workers, int batch_size, int cuda_devices, int cores);

struct BatchOptions {
  std::uint64_t seed = 0;
  bool shuffle = false;    // another order in each epoch; not with a rectangular data set
  int threads = 8;         // see worker_count
  int prefetch = 3;        // batches made ahead
  bool run_ahead = false;  // begins the next epoch early: for training, unless the index list changes between epochs
};

/// The order in which an epoch takes the data set's positions: a permutation of 0 .. n - 1 that depends on (seed, epoch)
/// alone.
std::vector<std::int64_t> shuffled_order(std::int64_t n, std::uint64_t seed, std::uint64_t epoch);

/// Batches of a data set; the last of an epoch may be smaller. Same seed, same batches, for any number of threads. The data
/// set is shared with the loader's threads.
std::unique_ptr<DetectionLoader> make_loader(std::shared_ptr<const DetectionDataset> data, const BatchOptions& options);

}  // namespace frost::yolo
