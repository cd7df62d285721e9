#include "models/yolo/data/label_cache.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "engine/base/atomic_file.h"
#include "engine/base/input_file.h"
#include "engine/data/parallel_for.h"
#include "engine/image/codec.h"
#include "kernels/error.h"

namespace frost::yolo {
namespace {
namespace fs = std::filesystem;

constexpr char kMagic[8] = {'f', 'r', 'o', 's', 't', 'l', 'b', 'l'};
constexpr std::uint32_t kVersion = 3;  // also where the scan finds more than it did

struct CacheHeader {
  char magic[8];
  std::uint32_t version, reserved;
  std::uint64_t files_hash, payload_bytes, payload_hash;
};

std::uint64_t fnv(std::uint64_t hash, const void* data, std::size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3ULL;
  return hash;
}
constexpr std::uint64_t kFnvStart = 0xcbf29ce484222325ULL;

class Writer {
 public:
  template <class T>
  void value(const T& v) {
    append(&v, sizeof v);
  }
  void text(const std::string& t) {
    value(static_cast<std::uint32_t>(t.size()));
    append(t.data(), t.size());
  }
  template <class T>
  void list(const std::vector<T>& v) {
    value(static_cast<std::uint32_t>(v.size()));
    append(v.data(), v.size() * sizeof(T));
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void append(const void* data, std::size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  std::string bytes_;
};

/// Reads what Writer wrote; throws on anything that does not fit into the bytes that are there.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  T value() {
    T v;
    take(&v, 1);
    return v;
  }
  std::string text() {
    std::string t(room(value<std::uint32_t>(), 1), ' ');
    take(t.data(), t.size());
    return t;
  }
  template <class T>
  std::vector<T> list() {
    std::vector<T> v(room(value<std::uint32_t>(), sizeof(T)));
    take(v.data(), v.size());
    return v;
  }
  std::size_t room(std::size_t count, std::size_t size) const {
    FROST_CHECK(count <= bytes_.size() / size, "cut off");
    return count;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  template <class T>
  void take(T* out, std::size_t count) {
    room(count, sizeof(T));
    if (count) std::memcpy(static_cast<void*>(out), bytes_.data(), count * sizeof(T));
    bytes_.remove_prefix(count * sizeof(T));
  }
  std::string_view bytes_;
};

std::string pack(const LabelSet& set, const std::vector<std::string>& files) {
  Writer out;
  out.value(set.counts);
  out.value(static_cast<std::uint32_t>(set.messages.size()));
  for (const std::string& message : set.messages) out.text(message);
  out.value(static_cast<std::uint32_t>(set.images.size()));
  std::uint32_t place = 0;
  for (const LabeledImage& image : set.images) {
    while (files[place] != image.path) ++place;  // both have the list's order
    out.value(place++);                          // a file that is listed twice has two places
    out.value(image.width);
    out.value(image.height);
    out.list(image.rows);
    out.value(static_cast<std::uint32_t>(image.segments.size()));
    for (const Segment& segment : image.segments) out.list(segment);
  }
  return out.bytes();
}

LabelSet unpack(std::string_view payload, const std::vector<std::string>& files) {
  Reader in(payload);
  LabelSet set;
  set.counts = in.value<LabelCounts>();
  set.messages.resize(in.room(in.value<std::uint32_t>(), sizeof(std::uint32_t)));
  for (std::string& message : set.messages) message = in.text();
  set.images.resize(in.room(in.value<std::uint32_t>(), 5 * sizeof(std::uint32_t)));
  std::int64_t last = -1;
  for (LabeledImage& image : set.images) {
    const auto place = in.value<std::uint32_t>();
    FROST_CHECK(place > last && place < files.size(), "wrong image");
    last = place;
    image.path = files[place];
    image.width = in.value<int>();
    image.height = in.value<int>();
    image.rows = in.list<LabelRow>();
    image.segments.resize(in.room(in.value<std::uint32_t>(), sizeof(std::uint32_t)));
    for (Segment& segment : image.segments) segment = in.list<float>();
    FROST_CHECK(std::min(image.width, image.height) >= kSmallestSide && std::max(image.width, image.height) <= kLongestSide,
                "wrong size");
    // A box within the picture has its points no further out than half a picture.
    for (const Segment& segment : image.segments)
      FROST_CHECK(segment.size() >= 2 && segment.size() % 2 == 0 &&
                      std::ranges::all_of(segment, [](float v) { return v >= -1 && v <= 2; }),
                  "wrong polygon");
    FROST_CHECK(image.segments.empty() || image.segments.size() == image.rows.size(), "wrong polygons");
    for (const LabelRow& r : image.rows)
      FROST_CHECK(r.cls >= 0 && r.x >= 0 && r.y >= 0 && r.w >= 0 && r.h >= 0 && r.x <= 1 && r.y <= 1 && r.w <= 1 && r.h <= 1,
                  "wrong box");
  }
  FROST_CHECK(in.empty(), "too long");
  const LabelCounts& c = set.counts;
  FROST_CHECK(c.total == static_cast<std::int64_t>(files.size()) &&
                  std::min({c.found, c.missing, c.empty, c.corrupt}) >= 0 && c.corrupt <= c.total &&
                  c.total - c.corrupt == static_cast<std::int64_t>(set.images.size()),
              "wrong counts");
  return set;
}

}  // namespace

std::string label_cache_path(const std::vector<std::string>& paths, const std::string& first_image,
                             const std::string& cache_dir) {
  std::error_code error;
  const fs::path source = paths.back();
  fs::path path = fs::is_regular_file(source, error) ? fs::path(source).replace_extension()
                                                     : fs::path(label_path(first_image)).parent_path();
  if (!cache_dir.empty()) {
    // Folders of equal names ("train") must not meet in one cache folder.
    char digits[17] = {};
    const std::string text = fs::absolute(path).string();
    std::to_chars(digits, digits + 16, fnv(kFnvStart, text.data(), text.size()), 16);
    path = fs::path(cache_dir) / (path.filename().string() + "-" + digits);
  }
  return path.string() + ".frost-cache";
}

std::uint64_t hash_label_files(const std::vector<std::string>& images, int threads) {
  std::vector<std::uint64_t> hashes(images.size());
  parallel_for(static_cast<std::int64_t>(images.size()), threads, [&](std::int64_t i) {
    std::uint64_t hash = kFnvStart;
    const std::string& image = images[static_cast<std::size_t>(i)];
    for (const std::string& path : {image, label_path(image)}) {
      std::error_code error;
      const auto size = fs::file_size(path, error);
      const std::int64_t facts[2] = {error ? -1 : static_cast<std::int64_t>(size),
                                     error ? 0 : fs::last_write_time(path, error).time_since_epoch().count()};
      hash = fnv(fnv(hash, path.c_str(), path.size() + 1), facts, sizeof facts);
    }
    hashes[static_cast<std::size_t>(i)] = hash;
  });
  return fnv(kFnvStart, hashes.data(), hashes.size() * sizeof hashes[0]);
}

std::optional<LabelSet> read_label_cache(const std::string& path, std::uint64_t files_hash,
                                         const std::vector<std::string>& files) {
  try {
    const FileBytes file(path);
    const std::string_view bytes = file.text();
    CacheHeader header;
    FROST_CHECK(bytes.size() >= sizeof header, "cut off");
    std::memcpy(&header, bytes.data(), sizeof header);
    const std::string_view payload = bytes.substr(sizeof header);
    FROST_CHECK(std::equal(kMagic, kMagic + sizeof kMagic, header.magic) && header.version == kVersion &&
                    header.files_hash == files_hash && header.payload_bytes == payload.size() &&
                    header.payload_hash == fnv(kFnvStart, payload.data(), payload.size()),
                "stale");
    return unpack(payload, files);
  } catch (const Error&) {
    return std::nullopt;  // absent, older, corrupt: all the same, the labels are read again
  }
}

void write_label_cache(const std::string& path, std::uint64_t files_hash, const LabelSet& set,
                       const std::vector<std::string>& files) {
  // A cache folder that is not there was mistyped or is not mounted: it is not made.
  const fs::path folder = fs::absolute(path).parent_path();
  FROST_CHECK(fs::is_directory(folder), folder.string(), ": No such file or directory");
  const std::string payload = pack(set, files);
  CacheHeader header{.magic = {},
                     .version = kVersion,
                     .reserved = 0,
                     .files_hash = files_hash,
                     .payload_bytes = payload.size(),
                     .payload_hash = fnv(kFnvStart, payload.data(), payload.size())};
  std::copy(kMagic, kMagic + sizeof kMagic, header.magic);
  const std::string own = fs::path(path).filename().string();
  remove_dead_temporaries(
      folder, [&](const std::string& name) { return name == own; }, std::chrono::hours(1));
  write_file_atomically(path, [&](FileSink& sink) {
    sink.write(&header, sizeof header);
    sink.write(payload);
  });
}

}  // namespace frost::yolo
