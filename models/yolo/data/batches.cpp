#include "models/yolo/data/batches.h"

#include <algorithm>

#include "kernels/error.h"

namespace frost::yolo {
namespace {

/// Makes batches of one data set.
class Collator {
 public:
  Collator(std::shared_ptr<const DetectionDataset> data, const BatchOptions& options)
      : data_(std::move(data)), options_(options), orders_(data_->size(), options.seed) {}

  std::int64_t open(DetectionBatch& b, std::int64_t epoch, std::int64_t place) {
    const std::int64_t first = place * data_->options().batch_size;
    const Shape2 shape = data_->batch_shape(place);
    b.n = std::min<std::int64_t>(data_->options().batch_size, data_->size() - first);
    b.h = shape.height;
    b.w = shape.width;
    if (b.pixels.size() < b.bytes()) b.pixels.resize(b.bytes());  // never shrinks: growing again would fill it with zeros
    const auto count = static_cast<std::size_t>(b.n);
    b.items.resize(count);
    b.infos.resize(count);
    b.paths.resize(count);
    b.indices.resize(count);
    const auto order = options_.shuffle ? orders_.of(epoch) : nullptr;
    for (std::int64_t i = 0; i < b.n; ++i) {
      const std::int64_t position = order ? (*order)[static_cast<std::size_t>(first + i)] : first + i;
      b.indices[static_cast<std::size_t>(i)] = data_->index_list()[static_cast<std::size_t>(position)];
    }
    return b.n;
  }

  void item(DetectionBatch& b, std::int64_t epoch, std::int64_t place, std::int64_t i) const {
    const auto slot = static_cast<std::size_t>(i);
    // The random stream belongs to the place in the epoch, not to the image: an image drawn twice is augmented differently.
    Rng rng(options_.seed, static_cast<std::uint64_t>(epoch),
            static_cast<std::uint64_t>(place * data_->options().batch_size + i));
    data_->get(b.indices[slot], place, rng, b.image(i), b.items[slot]);
    b.paths[slot] = data_->image(b.indices[slot]).path;
    b.infos[slot] = b.items[slot].info;
  }

  static void close(DetectionBatch& b) {
    leave_out_unusable(b);
    b.targets.clear();
    for (std::size_t i = 0; i < b.items.size(); ++i)
      for (const LabelRow& r : b.items[i].rows)
        b.targets.insert(b.targets.end(), {static_cast<float>(i), r.cls, r.x, r.y, r.w, r.h});
  }

 private:
  /// Later items move up.
  static void leave_out_unusable(DetectionBatch& b) {
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < b.n; ++i) {
      const auto from = static_cast<std::size_t>(i), to = static_cast<std::size_t>(kept);
      if (!b.items[from].usable) continue;
      if (to < from) {
        std::copy_n(b.image(i), b.h * b.w * 3, b.image(kept));
        b.items[to] = std::move(b.items[from]), b.infos[to] = b.infos[from];
        b.paths[to] = std::move(b.paths[from]), b.indices[to] = b.indices[from];
      }
      ++kept;
    }
    b.n = kept;
    const auto count = static_cast<std::size_t>(kept);
    b.items.resize(count), b.infos.resize(count), b.paths.resize(count), b.indices.resize(count);
  }

  std::shared_ptr<const DetectionDataset> data_;
  BatchOptions options_;
  EpochOrders orders_;
};

}  // namespace

std::unique_ptr<DetectionLoader> make_loader(std::shared_ptr<const DetectionDataset> data, const BatchOptions& options) {
  FROST_CHECK(!(options.shuffle && data->options().rect), "rectangular batches cannot be shuffled");
  const std::int64_t batches = data->batches();
  auto collator = std::make_shared<Collator>(std::move(data), options);
  BatchSource<DetectionBatch> source{.batches = batches,
                                     .open = [collator](DetectionBatch& b, std::int64_t epoch,
                                                        std::int64_t place) { return collator->open(b, epoch, place); },
                                     .item = [collator](DetectionBatch& b, std::int64_t epoch, std::int64_t place,
                                                        std::int64_t i) { collator->item(b, epoch, place, i); },
                                     .close = [](DetectionBatch& b, std::int64_t, std::int64_t) { Collator::close(b); }};
  return std::make_unique<DetectionLoader>(
      std::move(source),
      LoaderOptions{.threads = options.threads, .prefetch = options.prefetch, .run_ahead = options.run_ahead});
}

}  // namespace frost::yolo
