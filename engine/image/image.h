#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace frost {

/// 8-bit pixels, HWC, channels B, G, R. Value type; rows are packed.
struct Image {
  int height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  // height * width * 3

  Image() = default;
  Image(int h, int w, std::uint8_t fill = 0) : height(h), width(w), pixels(static_cast<std::size_t>(h) * w * 3, fill) {}
  bool empty() const { return pixels.empty(); }
  std::uint8_t* at(int y, int x) { return pixels.data() + (static_cast<std::size_t>(y) * width + x) * 3; }
  const std::uint8_t* at(int y, int x) const { return pixels.data() + (static_cast<std::size_t>(y) * width + x) * 3; }
};

constexpr int kLongestSide = 1 << 20;  // pixels, of a picture that is read

/// What a file's header says, before any turning by its orientation.
struct ImageInfo {
  int width = 0, height = 0;
  std::string format;   // "jpeg", "png", "bmp", "webp", "tiff"; "gif", "pfm", "ppm": known, but cannot be decoded here
  int orientation = 1;  // EXIF 1..8; 5..8 exchange width and height when the image is decoded
};

}  // namespace frost
