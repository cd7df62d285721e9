#include "models/yolo/data/labels.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <sstream>
#include <string_view>

#include "engine/base/folder_files.h"
#include "engine/base/input_file.h"
#include "engine/data/parallel_for.h"
#include "engine/image/codec.h"
#include "kernels/error.h"
#include "models/yolo/data/label_cache.h"

namespace frost::yolo {
namespace {
namespace fs = std::filesystem;

constexpr std::array<std::string_view, 10> kImageSuffixes = {"bmp", "dng", "jpeg", "jpg",  "mpo",
                                                             "png", "tif", "tiff", "webp", "pfm"};
constexpr const char* kIgnoring = "ignoring corrupt image/label: ";
constexpr const char* kNoLabel = ", not a regular file: taken as no label";
constexpr const char* kHelp = "See https://github.com/ultralytics/yolov5/wiki/Train-Custom-Data";

bool known_suffix(const fs::path& file) {
  return std::ranges::find(kImageSuffixes, lower_ending(file)) != kImageSuffixes.end();
}

// The ASCII part of what Python calls white space and line ends; label files were always read by those rules.
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f'); }
bool is_line_end(char c) { return (c >= '\n' && c <= '\r') || (c >= '\x1c' && c <= '\x1e'); }

std::string_view strip(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// The pieces between separators, without the pieces of no length.
template <class IsSeparator>
std::vector<std::string_view> split(std::string_view text, IsSeparator separates) {
  std::vector<std::string_view> pieces;
  for (std::size_t first = 0, i = 0; i <= text.size(); ++i) {
    if (i < text.size() && !separates(text[i])) continue;
    if (i > first) pieces.push_back(text.substr(first, i - first));
    first = i + 1;
  }
  return pieces;
}

/// For a message.
std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 40));
  std::ranges::replace_if(
      shown, [](char c) { return static_cast<unsigned char>(c) < ' '; }, '?');
  return shown;
}

/// As few digits as distinguish it from the neighbouring floats.
std::string text_of(float value) {
  std::array<char, 32> digits{};
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
}

float number(std::string_view text, std::size_t line) {
  std::string_view digits = text;
  if (digits.size() > 1 && digits[0] == '+' && digits[1] != '-') digits.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range)
    value = digits.find("e-") != digits.npos || digits.find("E-") != digits.npos ? 0 : INFINITY;
  if (error == std::errc::invalid_argument || end != digits.data() + digits.size()) {
    fail("'", printable(text), "' in row ", line, " is not a number");
  }
  return static_cast<float>(value);
}

LabelRow box_of(float cls, const Segment& points) {
  for (const float v : points)
    if (std::isnan(v)) return {cls, v, v, v, v};  // comparisons would lose it; the row is refused later
  float x1 = points[0], x2 = x1, y1 = points[1], y2 = y1;
  for (std::size_t i = 2; i < points.size(); i += 2) {
    x1 = std::min(x1, points[i]), x2 = std::max(x2, points[i]);
    y1 = std::min(y1, points[i + 1]), y2 = std::max(y2, points[i + 1]);
  }
  return {cls, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1};
}

/// The values that are not as they should be, for a message. `first` 0 looks at the class too, 1 at the box alone.
template <class Bad>
std::string values_where(const std::vector<LabelRow>& rows, int first, Bad bad) {
  constexpr int kShown = 10;
  std::string text;
  int count = 0;
  for (const LabelRow& r : rows) {
    const float values[5] = {r.cls, r.x, r.y, r.w, r.h};
    for (int i = first; i < 5; ++i)
      if (bad(values[i]) && count++ < kShown) text += (count > 1 ? " " : "") + text_of(values[i]);
  }
  if (count > kShown) text += " ...";
  return text;
}

void remove_duplicates(Labels& labels) {
  std::vector<std::size_t> order(labels.rows.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](auto a, auto b) { return labels.rows[a] < labels.rows[b]; });
  const auto rest = std::ranges::unique(order, [&](auto a, auto b) { return labels.rows[a] == labels.rows[b]; });
  if (rest.empty()) return;  // and file order is kept
  labels.duplicates = static_cast<int>(rest.size());
  order.erase(rest.begin(), rest.end());
  Labels kept;
  kept.duplicates = labels.duplicates;
  for (const std::size_t i : order) {
    kept.rows.push_back(labels.rows[i]);
    if (!labels.segments.empty()) kept.segments.push_back(std::move(labels.segments[i]));
  }
  labels = std::move(kept);
}

/// What a label's place holds where that is neither a file nor nothing; empty otherwise.
std::string odd_kind(const std::string& label) {
  std::error_code error;
  switch (const fs::file_status status = fs::status(label, error); status.type()) {
    case fs::file_type::regular:
      return "";
    case fs::file_type::not_found:
      return fs::is_symlink(fs::symlink_status(label, error)) ? "a link to nothing" : "";
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::socket:
      return "a socket";
    case fs::file_type::none:
      return "out of reach (" + error.message() + ")";
    default:
      return "a device";
  }
}

/// What one image's check says; `corrupt` holds the reason why the image is left out.
struct Verdict {
  LabeledImage image;
  bool found = false, missing = false, empty = false, corrupt = false;
  std::vector<std::string> messages;
};

Verdict check_image(const std::string& path) {
  Verdict v;
  v.image.path = path;
  const std::string warning = "WARNING ⚠️ " + path + ": ";
  try {
    std::string doubt;
    const ImageInfo info = probe_image(path, &doubt);
    const bool turned = info.orientation == 6 || info.orientation == 8;
    v.image.width = turned ? info.height : info.width;
    v.image.height = turned ? info.width : info.height;
    FROST_CHECK(std::ranges::find(kImageSuffixes, info.format) != kImageSuffixes.end(), "invalid image format ",
                info.format);
    FROST_CHECK(info.width > 0 && info.height > 0, "frost cannot decode ", info.format, " files; convert it to png or jpeg");
    FROST_CHECK(std::min(info.width, info.height) >= kSmallestSide, "image size (", v.image.width, ", ", v.image.height,
                ") <", kSmallestSide, " pixels");
    // YOLOv5 rewrites such a file; a training program should not change its input.
    if (!doubt.empty()) v.messages.push_back("WARNING ⚠️ " + doubt);
    const std::string file = label_path(path);
    std::error_code error;
    if (!fs::is_regular_file(file, error)) {
      v.missing = true;
      if (const std::string kind = odd_kind(file); !kind.empty())
        v.messages.push_back(warning + "its label " + file + " is " + kind + kNoLabel);
      return v;
    }
    v.found = true;
    Labels labels = parse_labels(read_text(file));
    v.empty = labels.rows.empty();
    if (labels.duplicates) v.messages.push_back(warning + std::to_string(labels.duplicates) + " duplicate labels removed");
    v.image.rows = std::move(labels.rows);
    v.image.segments = std::move(labels.segments);
  } catch (const std::exception& e) {
    v.corrupt = true;
    std::string reason = e.what();
    if (reason.starts_with(path + ": ")) reason.erase(0, path.size() + 2);
    v.messages.push_back(warning + kIgnoring + reason);
  }
  return v;
}

void list_file(const fs::path& list, std::vector<std::string>& files, std::vector<std::string>& messages) {
  const std::string text = read_text(list.string()), folder = (list.parent_path() / "").string();
  std::string_view rest = text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);  // a byte order mark
  std::int64_t foreign = 0;
  std::string first;
  for (const std::string_view whole : split(rest, is_line_end)) {
    const std::string_view line = strip(whole);
    if (line.empty()) continue;
    std::string file = line.starts_with("./") ? folder + std::string(line.substr(2)) : std::string(line);
    if (known_suffix(file)) {
      files.push_back(std::move(file));
    } else if (foreign++ == 0) {
      first = printable(line);
    }
  }
  if (foreign > 0)
    messages.push_back("WARNING ⚠️ " + list.string() + ": " + std::to_string(foreign) +
                       " lines name no image by their ending and are left out, the first: '" + first + "'");
}

}  // namespace

std::vector<std::string> list_images(const std::vector<std::string>& paths, const std::string& prefix,
                                     std::vector<std::string>* messages) {
  std::vector<std::string> files, notes;
  std::string given;
  for (const std::string& path : paths) given += (given.empty() ? "" : ", ") + path;
  try {
    for (const std::string& path : paths) {
      if (fs::is_directory(path)) {
        for (const fs::path& file : files_below(path, known_suffix)) files.push_back(file.string());
      } else {
        FROST_CHECK(fs::exists(path), path, " does not exist");
        list_file(path, files, notes);
      }
    }
    FROST_CHECK(!files.empty(), "No images found");
  } catch (const std::exception& e) {
    fail(prefix, "Error loading data from ", given, ": ", e.what(), ". ", kHelp);
  }
  std::ranges::sort(files);
  if (messages) *messages = std::move(notes);
  return files;
}

std::string label_path(const std::string& image) {
  std::string path = image;
  constexpr std::string_view from = "/images/", to = "/labels/";
  if (const auto at = path.rfind(from); at != std::string::npos) path.replace(at, from.size(), to);
  return path.substr(0, path.rfind('.')) + ".txt";
}

Labels parse_labels(const std::string& text) {
  std::vector<std::vector<std::string_view>> fields;
  for (const std::string_view line : split(strip(text), is_line_end)) fields.push_back(split(line, is_space));
  const bool segments = std::ranges::any_of(fields, [](const auto& row) { return row.size() > 6; });

  Labels labels;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const auto& row = fields[i];
    FROST_CHECK(!row.empty(), "row ", i + 1, " is blank");
    std::vector<float> values;
    for (const std::string_view field : row) values.push_back(number(field, i + 1));
    if (segments) {
      FROST_CHECK(row.size() >= 3 && row.size() % 2 == 1, "row ", i + 1, ": a class and pairs of x y are expected, not ",
                  row.size(), " values");
      Segment points(values.begin() + 1, values.end());
      labels.rows.push_back(box_of(values[0], points));
      labels.segments.push_back(std::move(points));
    } else {
      FROST_CHECK(row.size() == fields[0].size(), "row ", i + 1, " has ", row.size(), " columns, row 1 has ",
                  fields[0].size());
      FROST_CHECK(row.size() == 5, "labels require 5 columns, ", row.size(), " columns detected");
      labels.rows.push_back({values[0], values[1], values[2], values[3], values[4]});
    }
  }
  const auto negative = [](float v) { return !(v >= 0); };
  const auto large = [](float v) { return v > 1; };
  const std::string below = values_where(labels.rows, 0, negative), above = values_where(labels.rows, 1, large);
  FROST_CHECK(below.empty(), "negative label values [", below, "]");
  FROST_CHECK(above.empty(), "non-normalized or out of bounds coordinates [", above, "]");
  remove_duplicates(labels);
  return labels;
}

namespace {
/// A warning's text for an error that ends the run: the set's name and the file stay.
std::string as_error(std::string message) {
  for (const std::string_view words : {std::string_view("WARNING ⚠️ "), std::string_view(kIgnoring)})
    if (const auto at = message.find(words); at != std::string::npos) message.erase(at, words.size());
  return message;
}
}  // namespace

LabelSet scan_labels(const std::vector<std::string>& paths, const ScanOptions& options) {
  std::vector<std::string> list_messages;
  const std::vector<std::string> files = list_images(paths, options.prefix, &list_messages);
  const auto count = static_cast<std::int64_t>(files.size());
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int threads = options.threads > 0 ? options.threads : std::clamp(cores, 1, 8);
  const std::string cache = label_cache_path(paths, files.front(), options.cache_dir);
  const std::uint64_t hash = hash_label_files(files, threads);

  LabelSet set;
  if (auto cached = read_label_cache(cache, hash, files)) {
    set = std::move(*cached);
    set.from_cache = true;
  } else {
    std::vector<Verdict> verdicts(files.size());
    parallel_for(
        count, threads,
        [&](std::int64_t i) {
          const auto place = static_cast<std::size_t>(i);
          verdicts[place] = check_image(files[place]);
        },
        [&](std::int64_t done) {
          if (options.progress) options.progress(done, count);
        });
    set.counts.total = count;
    for (Verdict& v : verdicts) {
      set.counts.found += v.found;
      set.counts.missing += v.missing;
      set.counts.empty += v.empty;
      set.counts.corrupt += v.corrupt;
      for (std::string& message : v.messages) set.messages.push_back(std::move(message));
      if (!v.corrupt) set.images.push_back(std::move(v.image));
    }
    try {
      write_label_cache(cache, hash, set, files);
    } catch (const Error& e) {  // with a read-only data set the next run scans again
      const std::string text = e.what(), reason = text.substr(text.rfind(": ") + 2);
      set.messages.push_back("WARNING ⚠️ Cache directory " + fs::path(cache).parent_path().string() +
                             " is not writeable: " + reason);
    }
  }
  set.cache_path = cache;
  set.messages.insert(set.messages.begin(), list_messages.begin(), list_messages.end());
  if (set.counts.found == 0) set.messages.push_back("WARNING ⚠️ No labels found in " + cache + ". " + kHelp);
  if (set.images.empty()) {
    const auto first = std::ranges::find_if(set.messages, [](const auto& m) { return m.find(kIgnoring) != m.npos; });
    fail(options.prefix, "none of ", files.size(), " images can be used",
         first == set.messages.end() ? std::string() : "; the first: " + as_error(*first));
  }
  for (std::string& message : set.messages) message.insert(0, options.prefix);
  return set;
}

namespace {
/// A class as the label file has it: the float may have come from other digits.
std::string class_text(const std::string& file, float value) {
  try {
    const std::string text = read_text(file);
    for (const std::string_view line : split(strip(text), is_line_end))
      if (const auto fields = split(line, is_space); !fields.empty() && number(fields[0], 1) == value)
        return printable(fields[0]);
  } catch (const Error&) {  // the labels came from a cache, and the file has changed
  }
  return text_of(value);
}
}  // namespace

void check_classes(const LabelSet& set, int classes, const std::string& data) {
  const LabeledImage* worst = nullptr;
  float highest = -1;
  for (const LabeledImage& image : set.images)
    for (const LabelRow& row : image.rows)
      if (row.cls > highest) highest = row.cls, worst = &image;
  if (!worst || std::trunc(highest) < static_cast<float>(classes)) return;
  fail("Label class ", class_text(label_path(worst->path), highest), " exceeds nc=", classes, " in ", data,
       ". Possible class labels are 0-", classes - 1, " (", label_path(worst->path), ")");
}

void check_trainable(const LabelSet& set, int classes, const std::string& data) {
  FROST_CHECK(set.counts.found > 0, "No labels found in ", set.cache_path, ", can not start training. ", kHelp);
  const bool labelled = std::ranges::any_of(set.images, [](const LabeledImage& image) { return !image.rows.empty(); });
  FROST_CHECK(labelled, "All labels empty in ", set.cache_path, ", can not start training. ", kHelp);
  check_classes(set, classes, data);
}

void check_not_corrupt(const LabelSet& set) {
  for (const std::string& message : set.messages)
    if (message.find(kIgnoring) != std::string::npos || message.ends_with(kNoLabel)) fail(as_error(message));
}

}  // namespace frost::yolo
