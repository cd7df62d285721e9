#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

#include "engine/image/image.h"
#include "tests/golden/golden.h"

/// Images among the reference numbers.
namespace frost::golden {

inline Image image_of(const Tensor& t) {
  if (t.shape.size() != 3 || t.shape[2] != 3) throw std::runtime_error("golden: not an image");
  Image image(static_cast<int>(t.shape[0]), static_cast<int>(t.shape[1]));
  image.pixels = t.values<std::uint8_t>();
  return image;
}

/// The largest difference of a pixel value; 1000 where the sizes differ.
inline int worst(const Image& a, const Image& b) {
  if (a.height != b.height || a.width != b.width || a.pixels.size() != b.pixels.size()) return 1000;
  int most = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) most = std::max(most, std::abs(a.pixels[i] - b.pixels[i]));
  return most;
}

/// Reproducible noise: image number `seed`.
inline Image noise(int height, int width, const std::string& seed) {
  Image image(height, width);
  const Fill fill(seed);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(fill.u(i) * 256);
  return image;
}

/// A smooth picture, which JPEG keeps well.
inline Image smooth(int height, int width) {
  Image image(height, width);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const std::array<int, 3> bgr = {60 + x * 100 / width, 200 - y * 100 / height, 40 + (x + y) * 60 / (width + height)};
      for (std::size_t c = 0; c < 3; ++c) image.at(y, x)[c] = static_cast<std::uint8_t>(bgr[c]);
    }
  }
  return image;
}

}  // namespace frost::golden
