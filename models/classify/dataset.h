#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/data/loader.h"
#include "engine/data/picture_faults.h"
#include "engine/image/image.h"
#include "engine/report/observer.h"

namespace frost::classify {

/// A folder with one folder for each class. Classes are sorted by name, and so are a class' files; files without a
/// picture's ending are ignored, and those that files_below (engine/base/folder_files.h) leaves out.
struct ImageFolder {
  struct Item {
    std::filesystem::path path;
    std::int64_t label;
  };
  std::filesystem::path folder;
  std::vector<std::string> classes;
  std::vector<Item> items;
  std::vector<std::string> notes;    // what a person should read, one line each
  std::vector<std::string> corrupt;  // and a line for each picture that was left out
  std::int64_t size() const { return static_cast<std::int64_t>(items.size()); }
};
/// A folder without pictures is a class only where `known` has its name. Pictures that probe_image refuses are left out.
/// Throws Error: not there, no class folders, no pictures.
ImageFolder scan_image_folder(const std::filesystem::path& folder, const std::vector<std::string>& known = {});
/// Reports the notes and the pictures left out; with `strict`, the first such picture is an Error.
void report_scan(const ImageFolder& folder, bool strict, Observer& observer);

/// `<data>/train`, and `<data>/test` if that exists, else `<data>/val`. The classes are those of train.
struct DataSplits {
  ImageFolder train, val;
  std::string val_name;  // "test" or "val"
};
/// Throws Error: missing folders; a class in one that the other has not.
DataSplits find_splits(const std::filesystem::path& data);
/// The second alone, for a model of `known` classes.
DataSplits find_val_split(const std::filesystem::path& data, const std::vector<std::string>& known);

/// By its ending.
bool is_image_file(const std::filesystem::path& file);

/// A decoded file; `warning` as in decode_image. Refuses by name one that is more than 64 times as long as wide: centre_view
/// would enlarge it without end.
Image read_image(const std::filesystem::path& file, std::string* warning = nullptr);

/// Resizes the image as the family does, so that it covers side x side, and returns the centre square of that side.
///   torchvision: shorter side to 8/7 of `side` (256 for 224), antialiased; then the middle.
///   YOLOv5 (`square`): the image's middle square, resized.
Image centre_view(const Image& image, int side, bool square);
/// Training: a random part (area 0.08 to 1, aspect 3/4 to 4/3), resized antialiased; mirrored half of the time; brightness,
/// contrast and saturation within 0.6 to 1.4.
Image random_view(const Image& image, int side, Rng& rng);

/// In validation without the pictures that cannot be decoded, and so maybe empty.
struct ImageBatch {
  std::int64_t n = 0, side = 0;
  std::vector<std::uint8_t> pixels;  // (n, side, side, 3) R G B; recycled, may be longer
  std::vector<std::int64_t> labels;  // (n)
  std::vector<std::int64_t> items;   // (n) numbers in the folder
  std::vector<char> usable;          // (n) scratch of collation
  std::size_t image_bytes() const { return static_cast<std::size_t>(side * side * 3); }
  /// Image i, B G R, for pictures.
  Image image(std::int64_t i) const;
};
using ImageLoader = Loader<ImageBatch>;

struct ImageLoaderOptions {
  int side = 224, batch_size = 64;
  bool augment = false, shuffle = false, square = false, cache = false;
  /// Training: a picture that cannot be decoded is replaced by the next one of the folder that can be, with its label.
  /// Otherwise the batch is shorter.
  bool stand_ins = false;
  std::uint64_t seed = 0;
  int threads = 0;
  std::shared_ptr<ImageFaults> faults{};  // receives what cannot be decoded; empty: not reported
};
/// Batches of a folder; the last of an epoch may be smaller. Same seed, same batches, for any number of threads. `cache`
/// keeps decoded images in memory as they are first read. next() throws Error where none can be decoded and `stand_ins`.
std::unique_ptr<ImageLoader> make_image_loader(std::shared_ptr<const ImageFolder> folder, const ImageLoaderOptions& options);

}  // namespace frost::classify
