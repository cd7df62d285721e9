#pragma once
#include <cstdint>
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

}  // namespace frost
