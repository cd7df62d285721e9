#include "models/yolo/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <numeric>
#include <utility>

#include "engine/data/parallel_for.h"
#include "engine/image/codec.h"
#include "engine/image/color.h"
#include "engine/image/resize.h"
#include "kernels/error.h"

namespace frost::yolo {
namespace {

constexpr double kGigabyte = 1 << 30;
constexpr double kCacheMargin = 1.1;

/// The number a file begins with; -1 where there is none ("max" in a control group without limit).
double number_in(const char* path) {
  std::ifstream in(path);
  double value = 0;
  return in >> value ? value : -1;
}

double aspect_ratio(const LabeledImage& image) { return static_cast<double>(image.height) / image.width; }

}  // namespace

std::vector<Shape2> rect_shapes(std::span<const double> ratios, int batch_size, int imgsz, int stride, double pad) {
  std::vector<Shape2> shapes;
  for (std::size_t first = 0; first < ratios.size(); first += static_cast<std::size_t>(batch_size)) {
    const auto batch = ratios.subspan(first, std::min(ratios.size() - first, static_cast<std::size_t>(batch_size)));
    double height = 1, width = 1;
    if (batch.back() < 1) {
      height = batch.back();
    } else if (batch.front() > 1) {
      width = 1 / batch.front();
    }
    const auto side = [&](double fraction) { return static_cast<int>(std::ceil(fraction * imgsz / stride + pad)) * stride; };
    shapes.push_back({side(height), side(width)});
  }
  return shapes;
}

Memory host_memory() {
  Memory memory;
  std::ifstream in("/proc/meminfo");
  for (std::string key, unit; in >> key;) {
    double kilobytes = 0;
    in >> kilobytes;
    std::getline(in, unit);
    if (key == "MemTotal:") memory.total = kilobytes * 1024;
    if (key == "MemAvailable:") memory.available = kilobytes * 1024;
  }
  // In a container not all of the machine's memory may be used.
  const double limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) {
    memory.total = std::min(memory.total, limit);
    memory.available = std::min(memory.available, std::max(0.0, limit - used));
  }
  return memory;
}

DetectionDataset::DetectionDataset(LabelSet labels, const DatasetOptions& options)
    : options_(options),
      images_(std::move(labels.images)),
      counts_(labels.counts),
      index_list_(images_.size()),
      faults_(static_cast<std::int64_t>(images_.size())) {
  FROST_CHECK(!images_.empty(), "the data set has no images");
  FROST_CHECK(options.imgsz > 0 && options.stride > 0 && options.batch_size > 0, "data set: image size ", options.imgsz,
              ", stride ", options.stride, " and batch size ", options.batch_size, " must be positive");
  options_.batch_size = static_cast<int>(std::min<std::int64_t>(options.batch_size, size()));
  std::iota(index_list_.begin(), index_list_.end(), 0);
  if (options.single_cls)
    for (LabeledImage& image : images_)
      for (LabelRow& row : image.rows) row.cls = 0;
  if (options.rect) {
    std::ranges::stable_sort(images_, {}, aspect_ratio);
    std::vector<double> ratios(images_.size());
    std::ranges::transform(images_, ratios.begin(), aspect_ratio);
    shapes_ = rect_shapes(ratios, options_.batch_size, options.imgsz, options.stride, options.pad);
  }
}

Shape2 DetectionDataset::batch_shape(std::int64_t batch) const {
  return options_.rect ? shapes_[static_cast<std::size_t>(batch)] : Shape2{options_.imgsz, options_.imgsz};
}

DetectionDataset::Resized DetectionDataset::resized(std::int64_t index) const {
  const auto place = static_cast<std::size_t>(index);
  if (!cache_.empty()) return cache_[place];
  if (faults_.unreadable(index)) return {};
  try {
    std::string warning;
    Image full = decode_image(images_[place].path, &warning);
    if (!warning.empty()) faults_.warn(index, warning);
    Resized result{.image = {}, .height0 = full.height, .width0 = full.width};
    result.image = std::make_shared<const Image>(resize_longest(std::move(full), options_.imgsz, !options_.augment));
    return result;
  } catch (const Error& e) {
    faults_.give_up(index, e.what());
    return {};
  }
}

std::pair<std::int64_t, DetectionDataset::Resized> DetectionDataset::stand_in(std::int64_t index) const {
  for (std::int64_t k = 0; k < size(); ++k) {
    const std::int64_t other = (index + k) % size();
    if (Resized loaded = resized(other); loaded.image) return {other, std::move(loaded)};
  }
  fail("none of ", size(), " images can be decoded; the first: ", faults_.first_cause());
}

void DetectionDataset::get(std::int64_t index, std::int64_t batch, Rng& rng, std::uint8_t* rgb, Item& item) const {
  FROST_CHECK(index >= 0 && index < size(), "image ", index, " of ", size());
  const Shape2 shape = batch_shape(batch);
  item = Item{};
  if (options_.augment) {
    const ItemSource source{.load =
                                [this](std::int64_t i) {
                                  const auto [other, loaded] = stand_in(i);
                                  return LoadedImage{loaded.image, image(other).rows, image(other).segments};
                                },
                            .index_list = index_list_,
                            .count = size(),
                            .size = options_.imgsz,
                            .height = shape.height,
                            .width = shape.width,
                            .rectangular = options_.rect,
                            .params = options_.hyp};
    TrainingItem made = training_item(index, source, rng);
    FROST_CHECK(made.image.height == shape.height && made.image.width == shape.width, "augmentation made ", made.image.width,
                " x ", made.image.height, " pixels for a batch of ", shape.width, " x ", shape.height);
    pack_rgb(made.image, rgb);
    item.rows = std::move(made.rows);
    return;
  }
  const Resized loaded = resized(index);
  item.usable = loaded.image != nullptr;
  if (!item.usable) return;
  const int h = loaded.image->height, w = loaded.image->width;
  const Letterbox box = letterbox_rgb(*loaded.image, {.height = shape.height, .width = shape.width, .enlarge = false}, rgb);
  item.info = {.height0 = loaded.height0,
               .width0 = loaded.width0,
               .ratio_h = static_cast<double>(h) / loaded.height0,
               .ratio_w = static_cast<double>(w) / loaded.width0,
               .pad_w = box.pad_w,
               .pad_h = box.pad_h};
  for (const LabelRow& row : image(index).rows) {
    const PixelBox pixels = to_pixels(row, static_cast<float>(box.ratio_w * w), static_cast<float>(box.ratio_h * h),
                                      static_cast<float>(box.pad_w), static_cast<float>(box.pad_h));
    item.rows.push_back(to_fractions(pixels, shape.width, shape.height));
  }
}

void DetectionDataset::set_index_list(std::vector<std::int64_t> list) {
  FROST_CHECK(static_cast<std::int64_t>(list.size()) == size(), "index list of ", list.size(), " for ", size(), " images");
  for (const std::int64_t i : list) FROST_CHECK(i >= 0 && i < size(), "index list holds ", i, " of ", size(), " images");
  index_list_ = std::move(list);
}

double DetectionDataset::cache_bytes() const {
  double bytes = 0;
  for (const LabeledImage& image : images_) {
    const double r = static_cast<double>(options_.imgsz) / std::max(image.width, image.height);
    bytes += 3 * (image.width * r) * (image.height * r);
  }
  return bytes;
}

std::string DetectionDataset::cache_images(int threads, const std::string& prefix, const Memory& memory,
                                           const std::function<void(std::int64_t, std::int64_t, double)>& progress) {
  const double required = cache_bytes() * kCacheMargin;
  if (required >= memory.available)
    return fmt::format("{}{:.1f}GB RAM required, {:.1f}/{:.1f}GB available, not caching images ⚠️", prefix,
                       required / kGigabyte, memory.available / kGigabyte, memory.total / kGigabyte);
  std::vector<Resized> cache(images_.size());
  std::atomic<std::size_t> bytes = 0;
  parallel_for(
      size(), threads,
      [&](std::int64_t i) {
        Resized& kept = cache[static_cast<std::size_t>(i)];
        kept = resized(i);
        if (kept.image) bytes += kept.image->pixels.size();
      },
      [&](std::int64_t done) {
        if (progress) progress(done, size(), static_cast<double>(bytes));
      });
  cache_ = std::move(cache);
  return "";
}

}  // namespace frost::yolo
