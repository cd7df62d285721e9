#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/byte_store.h"
#include "engine/report/observer.h"
#include "models/yolo/data/batches.h"
#include "models/yolo/training/step.h"

namespace frost::yolo {

/// --cache-features: if pictures are the same in every epoch, the frozen prefix's outputs are too. They are computed once
/// for each image and kept. Later epochs begin above the cut.
///
/// A convolution's rounding may depend on the batch's size (another algorithm), so features are kept by image and batch
/// size. That it does not depend on the other images of the batch is checked once: the first batch found in the cache is
/// computed again, and that result is used.
class CachedPrefix {
 public:
  /// `folder` empty: in memory.
  CachedPrefix(Device& device, DetectionModel& model, DType compute, const std::filesystem::path& folder,
               Observer& observer = silence());

  /// The features of a batch: kept ones if all its images have some, else computed, and kept.
  PrefixOutput of(const DetectionBatch& batch);

  int cut() const { return cut_; }
  std::int64_t hits() const { return hits_; }  // batches that came from the cache, and were not computed
  std::int64_t bytes() const { return store_.bytes(); }
  /// Of one image.
  std::int64_t bytes_each() const { return kept_.empty() ? 0 : bytes() / std::ssize(kept_); }
  bool on() const { return on_; }

 private:
  struct Kept {
    std::size_t record;
    std::vector<Shape> shapes;  // of one image's features
  };
  using Key = std::pair<std::int64_t, std::int64_t>;  // image, batch size

  PrefixOutput compute(const DetectionBatch& batch);
  PrefixOutput fetch(const DetectionBatch& batch);
  void keep(const DetectionBatch& batch, const PrefixOutput& output);
  void check(const DetectionBatch& batch, const PrefixOutput& output);
  std::vector<std::byte> record_of(const PrefixOutput& output, std::size_t image) const;

  Device& device_;
  DetectionModel& model_;
  DType compute_;
  int cut_;
  Observer& observer_;
  ByteStore store_;
  std::map<Key, Kept> kept_;
  std::int64_t hits_ = 0;
  bool checked_ = false, on_ = true;
};

/// Throws Error, saying what to change, where features of this model, frozen as it is, cannot be kept: layer 0 trains, or
/// frozen norms use batch statistics.
void check_cacheable(DetectionModel& model, FrozenBn frozen_bn);

}  // namespace frost::yolo
