#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/epoch_order.h"
#include "engine/data/loader.h"
#include "models/yolo/data/dataset.h"

namespace frost::yolo {

/// What a network trains or is validated on in one step. In validation it is without the pictures that cannot be decoded,
/// and so may be empty.
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

struct BatchOptions {
  std::uint64_t seed = 0;
  bool shuffle = false;    // another order in each epoch; not with a rectangular data set
  int threads = 8;         // see worker_count
  int prefetch = 3;        // batches made ahead
  bool run_ahead = false;  // begins the next epoch early: for training, unless the index list changes between epochs
};

/// Batches of a data set; the last of an epoch may be smaller. Same seed, same batches, for any number of threads. The data
/// set is shared with the loader's threads.
std::unique_ptr<DetectionLoader> make_loader(std::shared_ptr<const DetectionDataset> data, const BatchOptions& options);

}  // namespace frost::yolo
