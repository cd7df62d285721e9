#include "models/classify/dataset.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <mutex>

#include "engine/data/epoch_order.h"
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
        cached_(options.cache ? folder_->items.size() : 0) {}

  std::int64_t open(ImageBatch& b, std::int64_t epoch, std::int64_t place) {
    const std::int64_t first = place * options_.batch_size;
    b.n = std::min<std::int64_t>(options_.batch_size, folder_->size() - first);
    b.side = options_.side;
    const std::size_t bytes = static_cast<std::size_t>(b.n) * b.image_bytes();
    if (b.pixels.size() < bytes) b.pixels.resize(bytes);
    const auto count = static_cast<std::size_t>(b.n);
    b.labels.resize(count);
    b.items.resize(count);
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
    const std::shared_ptr<const Image> image = picture(static_cast<std::size_t>(b.items[slot]));
    Rng rng(options_.seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(place * options_.batch_size + i));
    const Image view =
        options_.augment ? random_view(*image, options_.side, rng) : centre_view(*image, options_.side, options_.square);
    pack_rgb(view, b.pixels.data() + slot * b.image_bytes());
  }

 private:
  std::shared_ptr<const Image> picture(std::size_t i) {
    if (!cached_.empty()) {
      const std::lock_guard lock(mutex_);
      if (cached_[i]) return cached_[i];
    }
    auto image = std::make_shared<const Image>(read_picture(folder_->items[i].path));
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
};

bool has_ending(const fs::path& file, std::initializer_list<const char*> endings) {
  std::string ending = file.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
  return std::find(endings.begin(), endings.end(), ending) != endings.end();
}

}  // namespace

bool is_picture(const fs::path& file) {
  return has_ending(file, {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"});
}

Image read_picture(const fs::path& file) {
  constexpr std::int64_t kLongest = 64;
  Image image = decode_image(file);
  const auto [shorter, longer] = std::minmax(image.height, image.width);
  FROST_CHECK(longer <= kLongest * shorter, file.string(), ": ", image.width, "x", image.height, " pixels: more than ",
              kLongest, " times as long as wide");
  return image;
}

ImageFolder scan_image_folder(const fs::path& folder) {
  FROST_CHECK(fs::is_directory(folder), folder.string(), ": not found; expected a folder with one folder for each class");
  ImageFolder found{.folder = folder, .classes = {}, .items = {}};
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory()) found.classes.push_back(entry.path().filename().string());
  std::sort(found.classes.begin(), found.classes.end());
  FROST_CHECK(!found.classes.empty(), folder.string(), ": no folders in it; expected one for each class");
  for (std::size_t label = 0; label < found.classes.size(); ++label) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder / found.classes[label]))
      if (entry.is_regular_file() && is_picture(entry.path())) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files)  // said here, before a training run stops at it
      FROST_CHECK(has_ending(file, {".jpg", ".jpeg", ".png", ".bmp"}), file.string(),
                  ": pictures are JPEG, PNG or BMP; this kind cannot be read");
    for (fs::path& file : files) found.items.push_back({std::move(file), static_cast<std::int64_t>(label)});
  }
  FROST_CHECK(!found.items.empty(), folder.string(), ": no pictures (.jpg, .png, .bmp) in its class folders");
  return found;
}

DataSplits find_splits(const fs::path& data, bool need_train) {
  FROST_CHECK(fs::is_directory(data), data.string(), ": not found; --data is a folder with train/ and val/ (or test/)");
  DataSplits splits{.train = {}, .val = {}, .val_name = fs::is_directory(data / "test") ? "test" : "val"};
  splits.val = scan_image_folder(data / splits.val_name);
  if (!need_train) return splits;
  splits.train = scan_image_folder(data / "train");
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
      .close = {}};
  return std::make_unique<ImageLoader>(
      std::move(source), LoaderOptions{.threads = options.threads, .prefetch = 3, .run_ahead = options.augment});
}

}  // namespace frost::classify
