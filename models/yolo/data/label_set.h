#pragma once
#include <cstdint>
#include <string>
#include <vector>

/// The labels of a data set's images. labels.h reads them, label_cache.h keeps them for the next run.
namespace frost::yolo {

/// One row of a label file: class, then centre and size as fractions of the image's width and height.
struct LabelRow {
  float cls = 0, x = 0, y = 0, w = 0, h = 0;
  auto operator<=>(const LabelRow&) const = default;
};

/// Polygon x0 y0 x1 y1 ..., fractions of the image's width and height.
using Segment = std::vector<float>;

/// A label file's content. `segments` is empty, or has one polygon for each row.
struct Labels {
  std::vector<LabelRow> rows;
  std::vector<Segment> segments;
  int duplicates = 0;  // rows that were removed because an equal one came before
};

/// A usable image of a data set.
struct LabeledImage {
  std::string path;
  int width = 0, height = 0;  // turned as EXIF orientations 6 and 8 say; read from the header, not from the pixels
  std::vector<LabelRow> rows;
  std::vector<Segment> segments;
};

struct LabelCounts {
  std::int64_t found = 0, missing = 0, empty = 0, corrupt = 0, total = 0;
  bool operator==(const LabelCounts&) const = default;
};

struct LabelSet {
  std::vector<LabeledImage> images;  // in the list's order, without the corrupt ones
  LabelCounts counts;
  std::vector<std::string> messages;  // what a person should read, one line each
  std::string cache_path;
  bool from_cache = false;
};

/// The last "/images/" becomes "/labels/", the suffix ".txt"; docs/spec/data.md section 3.
std::string label_path(const std::string& image);

/// Sides of a usable image, pixels.
inline constexpr int kSmallestSide = 10;

}  // namespace frost::yolo
