#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/rng.h"
#include "engine/data/picture_faults.h"
#include "engine/image/image.h"
#include "models/yolo/data/augment.h"
#include "models/yolo/data/labels.h"

namespace frost::yolo {

struct DatasetOptions {
  int imgsz = 640;          // a multiple of stride
  int batch_size = 16;      // reduced to the number of images
  int stride = 32;          // the model's largest, at least 32
  double pad = 0;           // of rectangular batches, in strides: 0.5 in validation, 0 in training
  bool augment = false;     // training: mosaic, warp, HSV, flips, by `hyp`
  bool rect = false;        // batches of equal aspect ratio: images are reordered, no mosaic is made
  bool single_cls = false;  // every label becomes class 0
  AugmentParams hyp{};
};

/// How an item's picture was made from its file: needed to convert boxes back to the file's pixels.
struct ItemInfo {
  int height0 = 0, width0 = 0;      // the file's picture
  double ratio_h = 1, ratio_w = 1;  // of the first resize
  double pad_w = 0, pad_h = 0;      // of the letterbox, unrounded halves, pixels
};

struct Item {
  std::vector<LabelRow> rows;  // fractions of the item's picture
  ItemInfo info;               // not set where a picture is augmented: nothing maps back
  bool usable = true;          // false: the file cannot be decoded, there are no pixels
};

struct Shape2 {
  int height = 0, width = 0;
  bool operator==(const Shape2&) const = default;
};

/// Batch shapes of images in ascending order of height / width; docs/spec/data.md section 5.
std::vector<Shape2> rect_shapes(std::span<const double> aspect_ratios, int batch_size, int imgsz, int stride, double pad);

/// Bytes that this process may still allocate: free memory of the machine and of its control group.
struct Memory {
  double available = 0, total = 0;
};
Memory host_memory();

/// Images and labels as a network sees them. Threads may call get() at once.
class DetectionDataset {
 public:
  DetectionDataset(LabelSet labels, const DatasetOptions& options);

  std::int64_t size() const { return static_cast<std::int64_t>(images_.size()); }
  std::int64_t batches() const { return (size() + options_.batch_size - 1) / options_.batch_size; }
  const DatasetOptions& options() const { return options_; }
  const LabeledImage& image(std::int64_t index) const { return images_[static_cast<std::size_t>(index)]; }
  const std::vector<LabeledImage>& images() const { return images_; }
  const LabelCounts& counts() const { return counts_; }
  /// Of batch number `batch`: imgsz x imgsz, or its rectangle.
  Shape2 batch_shape(std::int64_t batch) const;

  /// Writes image `index` as height * width * 3 bytes R, G, B, where height and width are those of `batch`.
  ///
  /// A file that cannot be decoded is replaced: in training by the next one of the data set that can be decoded, also as a
  /// tile of a mosaic; in validation the item is not usable. What happens depends on the files alone, never on threads.
  /// Throws Error where no picture can be decoded.
  void get(std::int64_t index, std::int64_t batch, Rng& rng, std::uint8_t* rgb, Item& item) const;

  /// The images that positions of an epoch, and tiles of mosaics, stand for: 0, 1, ... n - 1, unless an epoch weights its
  /// images. Not while a loader works.
  std::span<const std::int64_t> index_list() const { return index_list_; }
  void set_index_list(std::vector<std::int64_t> list);

  /// Bytes of all images after the first resize.
  double cache_bytes() const;
  /// `--cache ram`: reads every image now and keeps it resized. Does nothing and returns what to tell the user
  /// ("<prefix>1.2GB RAM required, ...") where `memory` has no room for 1.1 times cache_bytes(). progress(done, total,
  /// bytes): calling thread.
  std::string cache_images(int threads, const std::string& prefix = "", const Memory& memory = host_memory(),
                           const std::function<void(std::int64_t, std::int64_t, double)>& progress = {});

  /// Warnings about corrupt files since the last call, one for each file.
  std::vector<std::string> take_warnings() const { return faults_.take(); }
  /// Of the first file that could not be decoded; empty where all could.
  std::string first_fault() const { return faults_.first_cause(); }

 private:
  struct Resized {
    std::shared_ptr<const Image> image;
    int height0 = 0, width0 = 0;
  };
  /// Without an image where the file cannot be decoded; faults_ has the cause.
  Resized resized(std::int64_t index) const;
  /// The first image from `index` on that can be decoded, and its number.
  std::pair<std::int64_t, Resized> stand_in(std::int64_t index) const;

  DatasetOptions options_;
  std::vector<LabeledImage> images_;
  LabelCounts counts_;
  std::vector<Shape2> shapes_;  // one for each batch where rect
  std::vector<std::int64_t> index_list_;
  std::vector<Resized> cache_;  // empty, or one for each image
  mutable ImageFaults faults_;
};

}  // namespace frost::yolo
