#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/image/resize.h"
#include "kernels/error.h"

namespace frost {
namespace {

constexpr int kBits = 22;  // of the weights' fraction: 8 bits of pixel and sums of weights up to 1 stay below 31

/// For every target position: the run of source positions under the triangle, and their weights, which sum to 2^22.
struct Window {
  int first = 0;
  std::vector<std::int32_t> weights;
};
std::vector<Window> windows(int in, int out) {
  const double scale = static_cast<double>(in) / out, reach = std::max(scale, 1.0);
  std::vector<Window> result(static_cast<std::size_t>(out));
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - reach + 0.5)),
              last = std::min(in, static_cast<int>(centre + reach + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int x = first; x < last; ++x) {
      weights.push_back(std::max(0.0, 1 - std::abs((x + 0.5 - centre) / reach)));
      sum += weights.back();
    }
    Window& window = result[static_cast<std::size_t>(i)];
    window.first = first;
    for (const double w : weights) window.weights.push_back(static_cast<std::int32_t>(0.5 + w / sum * (1 << kBits)));
  }
  return result;
}

std::uint8_t pixel_of(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

Image along_rows(const Image& source, int width) {
  Image out(source.height, width);
  const std::vector<Window> all = windows(source.width, width);
  for (int y = 0; y < source.height; ++y)
    for (int x = 0; x < width; ++x) {
      const Window& window = all[static_cast<std::size_t>(x)];
      const std::uint8_t* from = source.at(y, window.first);
      std::int32_t sums[3] = {1 << (kBits - 1), 1 << (kBits - 1), 1 << (kBits - 1)};
      for (const std::int32_t w : window.weights) {
        for (int c = 0; c < 3; ++c) sums[c] += w * from[c];
        from += 3;
      }
      for (int c = 0; c < 3; ++c) out.at(y, x)[c] = pixel_of(sums[c]);
    }
  return out;
}

Image along_columns(const Image& source, int height) {
  Image out(height, source.width);
  const std::vector<Window> all = windows(source.height, height);
  const std::size_t length = static_cast<std::size_t>(source.width) * 3;
  std::vector<std::int32_t> sums(length);
  for (int y = 0; y < height; ++y) {
    const Window& window = all[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), 1 << (kBits - 1));
    for (std::size_t k = 0; k < window.weights.size(); ++k) {
      const std::uint8_t* from = source.at(window.first + static_cast<int>(k), 0);
      const std::int32_t w = window.weights[k];
      for (std::size_t j = 0; j < length; ++j) sums[j] += w * from[j];
    }
    std::transform(sums.begin(), sums.end(), out.at(y, 0), pixel_of);
  }
  return out;
}

}  // namespace

Image resize_antialiased(const Image& source, int height, int width) {
  FROST_CHECK(!source.empty() && height > 0 && width > 0, "resize: ", source.height, "x", source.width, " to ", height, "x",
              width);
  const Image wide = width == source.width ? source : along_rows(source, width);
  return height == wide.height ? wide : along_columns(wide, height);
}

Image crop(const Image& source, int top, int left, int height, int width) {
  FROST_CHECK(
      top >= 0 && left >= 0 && height > 0 && width > 0 && top + height <= source.height && left + width <= source.width,
      "crop: ", height, "x", width, " at (", top, ", ", left, ") of ", source.height, "x", source.width);
  Image out(height, width);
  for (int y = 0; y < height; ++y) std::memcpy(out.at(y, 0), source.at(top + y, left), static_cast<std::size_t>(width) * 3);
  return out;
}

}  // namespace frost
