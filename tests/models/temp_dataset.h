#pragma once
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "engine/base/rng.h"
#include "engine/image/codec.h"

namespace frost::test {

/// A folder that is gone when the test ends.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "frost-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
    path_ = std::filesystem::canonical(name);
  }
  TempDir(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::string string() const { return path_.string(); }

  std::string write(const std::string& name, const std::string& text) const {
    const auto path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  /// A picture of smooth noise, by suffix jpg or png.
  std::string picture(const std::string& name, int height, int width, std::uint64_t seed = 1) const {
    const auto path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    Image image(height, width);
    Rng rng(seed);
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
      image.pixels[i] =
          static_cast<std::uint8_t>(i < 9 ? rng.next() : (image.pixels[i - 3] + static_cast<unsigned>(rng.below(9))));
    name.ends_with(".png") ? write_png(path, image) : write_jpeg(path, image, 95);
    return path.string();
  }

 private:
  std::filesystem::path path_;
};

/// Bytes of a JPEG with an EXIF orientation (1..8) put in front.
inline std::string jpeg_with_orientation(int height, int width, int orientation) {
  const auto plain = encode_jpeg(Image(height, width, 90));
  std::string bytes(plain.begin(), plain.end());
  const char exif[] =
      "\xff\xe1\x00\x22"
      "Exif\0\0"
      "MM\0\x2a\0\0\0\x08"
      "\0\x01"
      "\x01\x12\0\x03\0\0\0\x01\0\0\0\0"
      "\0\0\0\0";
  std::string segment(exif, sizeof exif - 1);
  segment[4 + 6 + 8 + 2 + 9] = static_cast<char>(orientation);
  return bytes.insert(2, segment);
}

}  // namespace frost::test
