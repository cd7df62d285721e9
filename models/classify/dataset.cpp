#include "models/classify/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <mutex>
#include <string_view>

#include "engine/base/folder_files.h"
#include "engine/data/epoch_order.h"
#include "engine/data/parallel_for.h"
#include "engine/image/codec.h"
#include "engine/image/color.h"
#include "engine/image/resize.h"

namespace frost::classify {
namespace {

namespace fs = std::filesystem;

int rounded(double v) { return static_cast<int>(std::nearbyint(v)); }

Image middle(const Image& image, int height, int width) {
  return crop(image, rounded((image.height - height) / 2.0), rounded((image.width - width) / 2.0), height, width);
}

/// Factors of brightness, contrast and saturation, in this order, each as a blend: with black, with the mean grey, with the
/// pixel's own grey.
void jitter(Image& image, float brightness, float contrast, float saturation) {
  const auto grey = [](const float* p) { return 0.114f * p[0] + 0.587f * p[1] + 0.299f * p[2]; };  // B G R
  const auto limited = [](float v) { return std::clamp(v, 0.0f, 255.0f); };
  double sum = 0;
  const std::size_t count = image.pixels.size() / 3;
  std::vector<float> values(image.pixels.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = limited(brightness * static_cast<float>(image.pixels[i]));
  for (std::size_t i = 0; i < count; ++i) sum += grey(&values[3 * i]);
  const float mean = static_cast<float>(sum / static_cast<double>(count));
  for (std::size_t i = 0; i < count; ++i) {
    std::array<float, 3> p;
    for (std::size_t k = 0; k < 3; ++k) p[k] = limited(contrast * values[3 * i + k] + (1 - contrast) * mean);
    const float own = grey(p.data());
    for (std::size_t k = 0; k < 3; ++k)
      image.pixels[3 * i + k] = static_cast<std::uint8_t>(std::lround(limited(saturation * p[k] + (1 - saturation) * own)));
  }
}

/// Makes the batches of one folder.
class Collator {
 public:
  Collator(std::shared_ptr<const ImageFolder> folder, const ImageLoaderOptions& options)
      : folder_(std::move(folder)),
        options_(options),
        orders_(folder_->size(), options.seed),
        cached_(options.cache ? folder_->items.size() : 0),
        faults_(options.faults ? options.faults : std::make_shared<ImageFaults>(folder_->size())) {}

  std::int64_t open(ImageBatch& b, std::int64_t epoch, std::int64_t place) {
    const std::int64_t first = place * options_.batch_size;
    b.n = std::min<std::int64_t>(options_.batch_size, folder_->size() - first);
    b.side = options_.side;
    const std::size_t bytes = static_cast<std::size_t>(b.n) * b.image_bytes();
    if (b.pixels.size() < bytes) b.pixels.resize(bytes);
    const auto count = static_cast<std::size_t>(b.n);
    b.labels.resize(count);
    b.items.resize(count);
    b.usable.resize(count);
    const auto order = options_.shuffle ? orders_.of(epoch) : nullptr;
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t position = first + static_cast<std::int64_t>(i);
      b.items[i] = order ? (*order)[static_cast<std::size_t>(position)] : position;
      b.labels[i] = folder_->items[static_cast<std::size_t>(b.items[i])].label;
    }
    return b.n;
  }

  void item(ImageBatch& b, std::int64_t epoch, std::int64_t place, std::int64_t i) {
    const auto slot = static_cast<std::size_t>(i);
    std::shared_ptr<const Image> image = picture(b.items[slot]);
    for (std::int64_t tried = 1; options_.stand_ins && !image; ++tried) {
      FROST_CHECK(tried < folder_->size(), folder_->folder.string(), ": none of ", folder_->size(),
                  " pictures can be decoded; the first: ", faults_->first_cause());
      b.items[slot] = (b.items[slot] + 1) % folder_->size();
      b.labels[slot] = folder_->items[static_cast<std::size_t>(b.items[slot])].label;
      image = picture(b.items[slot]);
    }
    b.usable[slot] = image != nullptr;
    if (!image) return;
    Rng rng(options_.seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(place * options_.batch_size + i));
    const Image view =
        options_.augment ? random_view(*image, options_.side, rng) : centre_view(*image, options_.side, options_.square);
    pack_rgb(view, b.pixels.data() + slot * b.image_bytes());
  }

  /// Leaves out items that are not usable: later ones move up.
  static void close(ImageBatch& b) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < b.usable.size(); ++i) {
      if (!b.usable[i]) continue;
      if (kept < i) {
        std::copy_n(b.pixels.data() + i * b.image_bytes(), b.image_bytes(), b.pixels.data() + kept * b.image_bytes());
        b.labels[kept] = b.labels[i], b.items[kept] = b.items[i];
      }
      ++kept;
    }
    b.n = static_cast<std::int64_t>(kept);
    b.labels.resize(kept), b.items.resize(kept), b.usable.resize(kept);
  }

 private:
  /// Null where the file cannot be decoded.
  std::shared_ptr<const Image> picture(std::int64_t item) {
    const auto i = static_cast<std::size_t>(item);
    if (!cached_.empty()) {
      const std::lock_guard lock(mutex_);
      if (cached_[i]) return cached_[i];
    }
    if (faults_->unreadable(item)) return nullptr;
    std::shared_ptr<const Image> image;
    try {
      std::string warning;
      image = std::make_shared<const Image>(read_image(folder_->items[i].path, &warning));
      if (!warning.empty()) faults_->warn(item, warning);
    } catch (const Error& e) {
      faults_->give_up(item, e.what());
      return nullptr;
    }
    if (!cached_.empty()) {
      const std::lock_guard lock(mutex_);
      cached_[i] = image;
    }
    return image;
  }

  std::shared_ptr<const ImageFolder> folder_;
  ImageLoaderOptions options_;
  EpochOrders orders_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<const Image>> cached_;
  std::shared_ptr<ImageFaults> faults_;
};

}  // namespace

bool is_image_file(const fs::path& file) {
  constexpr std::string_view kEndings[] = {"jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"};
  return std::ranges::find(kEndings, lower_ending(file)) != std::end(kEndings);
}

namespace {
void check_sides(const fs::path& file, int height, int width) {
  constexpr std::int64_t kLongest = 64;
  const auto [shorter, longer] = std::minmax(height, width);
  FROST_CHECK(longer <= kLongest * shorter, file.string(), ": ", width, "x", height, " pixels: more than ", kLongest,
              " times as long as wide");
}

void check_there(const fs::path& folder) {
  FROST_CHECK(fs::is_directory(folder), folder.string(), ": not found; expected a folder with one folder for each class");
}

void leave_out_corrupt(ImageFolder& found) {
  std::vector<std::string> causes(found.items.size());
  const int threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 8);
  parallel_for(found.size(), threads, [&](std::int64_t i) {
    const fs::path& file = found.items[static_cast<std::size_t>(i)].path;
    try {
      const ImageInfo info = probe_image(file);
      FROST_CHECK(info.width > 0 && info.height > 0, file.string(), ": ", info.format, " images are not supported");
      check_sides(file, info.height, info.width);
    } catch (const Error& e) {
      causes[static_cast<std::size_t>(i)] = e.what();
    }
  });
  std::vector<ImageFolder::Item> good;
  for (std::size_t i = 0; i < causes.size(); ++i) {
    if (causes[i].empty())
      good.push_back(std::move(found.items[i]));
    else
      found.corrupt.push_back(causes[i] + ": left out");
  }
  FROST_CHECK(!good.empty(), found.folder.string(), ": none of ", causes.size(),
              " pictures can be used; the first: ", causes.front());
  found.items = std::move(good);
}
}  // namespace

Image read_image(const fs::path& file, std::string* warning) {
  Image image = decode_image(file, warning);
  check_sides(file, image.height, image.width);
  return image;
}

ImageFolder scan_image_folder(const fs::path& folder, const std::vector<std::string>& known) {
  check_there(folder);
  ImageFolder found{.folder = folder, .classes = {}, .items = {}, .notes = {}, .corrupt = {}};
  std::vector<std::string> names;
  for (const fs::path& path : folders_in(folder)) names.push_back(path.filename().string());
  FROST_CHECK(!names.empty(), folder.string(), ": no folders in it; expected one for each class");
  std::string empty;
  for (const std::string& name : names) {
    std::vector<fs::path> files = files_below(folder / name, is_image_file);
    const bool is_known = std::find(known.begin(), known.end(), name) != known.end();
    if (files.empty() && !is_known) empty += (empty.empty() ? "" : ", ") + name;
    if (files.empty() && is_known)
      found.notes.push_back("WARNING ⚠️ " + folder.string() + ": no pictures of class " + name);
    if (files.empty() && !is_known) continue;
    for (fs::path& file : files) found.items.push_back({std::move(file), static_cast<std::int64_t>(found.classes.size())});
    found.classes.push_back(name);
  }
  if (!empty.empty())
    found.notes.push_back("WARNING ⚠️ " + folder.string() + ": folders without pictures are no classes: " + empty);
  FROST_CHECK(!found.items.empty(), folder.string(), ": no pictures (.jpg, .png, .bmp, .webp, .tif) in its class folders");
  leave_out_corrupt(found);
  return found;
}

void report_scan(const ImageFolder& folder, bool strict, Observer& observer) {
  for (const std::string& note : folder.notes) observer.notice(fmt::format("{}\n", note));
  for (const std::string& corruption : folder.corrupt) {
    if (strict) fail(corruption);
    observer.notice(fmt::format("WARNING ⚠️ {}\n", corruption));
  }
}

namespace {
std::string val_name_in(const fs::path& data) {
  FROST_CHECK(fs::is_directory(data), data.string(), ": not found; --data is a folder with train/ and val/ (or test/)");
  return fs::is_directory(data / "test") ? "test" : "val";
}
}  // namespace

DataSplits find_val_split(const fs::path& data, const std::vector<std::string>& known) {
  DataSplits splits{.train = {}, .val = {}, .val_name = val_name_in(data)};
  splits.val = scan_image_folder(data / splits.val_name, known);
  return splits;
}

DataSplits find_splits(const fs::path& data) {
  DataSplits splits{.train = {}, .val = {}, .val_name = val_name_in(data)};
  check_there(data / splits.val_name);  // before the long scan of the other
  splits.train = scan_image_folder(data / "train");
  splits.val = scan_image_folder(data / splits.val_name, splits.train.classes);
  std::vector<std::string> odd;
  std::set_symmetric_difference(splits.train.classes.begin(), splits.train.classes.end(), splits.val.classes.begin(),
                                splits.val.classes.end(), std::back_inserter(odd));
  FROST_CHECK(odd.empty(), data.string(), ": train and ", splits.val_name,
              " must have the same class folders; only one has '", odd.front(), "'");
  return splits;
}

Image centre_view(const Image& image, int side, bool square) {
  if (square) {
    const int shorter = std::min(image.height, image.width);
    // here the odd pixel goes to the end
    return resize_linear(crop(image, (image.height - shorter) / 2, (image.width - shorter) / 2, shorter, shorter), side,
                         side);
  }
  const int shorter = rounded(side * 256.0 / 224.0);
  const auto longer = [&](int large, int small) {
    return static_cast<int>(static_cast<std::int64_t>(shorter) * large / small);
  };
  const bool wide = image.width >= image.height;
  const Image resized = wide ? resize_antialiased(image, shorter, longer(image.width, image.height))
                             : resize_antialiased(image, longer(image.height, image.width), shorter);
  return middle(resized, side, side);
}

Image random_view(const Image& image, int side, Rng& rng) {
  constexpr double kLeastArea = 0.08, kWidest = 4.0 / 3;
  const double area = static_cast<double>(image.height) * image.width;
  Image part;
  for (int attempt = 0; attempt < 10 && part.empty(); ++attempt) {
    const double share = rng.uniform(kLeastArea, 1.0), aspect = std::exp(rng.uniform(-std::log(kWidest), std::log(kWidest)));
    const int width = rounded(std::sqrt(area * share * aspect)), height = rounded(std::sqrt(area * share / aspect));
    if (width < 1 || height < 1 || width > image.width || height > image.height) continue;
    const int top = static_cast<int>(rng.below(image.height - height + 1)),
              left = static_cast<int>(rng.below(image.width - width + 1));
    part = crop(image, top, left, height, width);
  }
  if (part.empty()) {  // too long an image: its middle, as wide (or high) as allowed
    const double aspect = static_cast<double>(image.width) / image.height;
    const int width = aspect > kWidest ? rounded(image.height * kWidest) : image.width,
              height = aspect < 1 / kWidest ? rounded(image.width * kWidest) : image.height;
    part = middle(image, height, width);
  }
  Image view = resize_antialiased(part, side, side);
  if (rng.uniform() < 0.5) flip_columns(view);
  const auto factor = [&] { return static_cast<float>(rng.uniform(0.6, 1.4)); };
  const float brightness = factor(), contrast = factor(), saturation = factor();
  jitter(view, brightness, contrast, saturation);
  return view;
}

Image ImageBatch::image(std::int64_t i) const {
  Image picture(static_cast<int>(side), static_cast<int>(side));
  swap_red_blue(pixels.data() + static_cast<std::size_t>(i) * image_bytes(), picture.pixels.data(), image_bytes() / 3);
  return picture;
}

std::unique_ptr<ImageLoader> make_image_loader(std::shared_ptr<const ImageFolder> folder,
                                               const ImageLoaderOptions& options) {
  const std::int64_t batches = (folder->size() + options.batch_size - 1) / options.batch_size;
  auto collator = std::make_shared<Collator>(std::move(folder), options);
  BatchSource<ImageBatch> source{
      .batches = batches,
      .open = [collator](ImageBatch& b, std::int64_t epoch, std::int64_t place) { return collator->open(b, epoch, place); },
      .item = [collator](ImageBatch& b, std::int64_t epoch, std::int64_t place,
                         std::int64_t i) { collator->item(b, epoch, place, i); },
      .close = [](ImageBatch& b, std::int64_t, std::int64_t) { Collator::close(b); }};
  return std::make_unique<ImageLoader>(
      std::move(source), LoaderOptions{.threads = options.threads, .prefetch = 3, .run_ahead = options.augment});
}

}  // namespace frost::classify
