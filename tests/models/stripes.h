#pragma once
#include <cmath>
#include <filesystem>
#include <string>

#include "engine/base/rng.h"
#include "engine/image/codec.h"

/// A small classification data set that is drawn: stripes whose direction is the class, in noise.
namespace frost::testing {

/// Class c of family f: stripes at an angle of 60 c + 30 f degrees, of random phase, colour and contrast.
inline Image stripes(int family, int label, std::uint64_t seed, int side) {
  Rng rng(77, static_cast<std::uint64_t>(family * 100 + label), seed);
  const double angle = (60 * label + 30 * family) * 3.14159265358979 / 180;
  const double frequency = rng.uniform(0.6, 1.0), phase = rng.uniform(0, 6.28), contrast = rng.uniform(50, 90);
  const double colour[3] = {rng.uniform(0.4, 1), rng.uniform(0.4, 1), rng.uniform(0.4, 1)};
  Image image(side, side);
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      const double wave = std::sin(frequency * (x * std::cos(angle) + y * std::sin(angle)) + phase);
      for (int c = 0; c < 3; ++c)
        image.at(y, x)[c] = static_cast<std::uint8_t>(128 + contrast * colour[c] * wave + rng.uniform(-20, 20));
    }
  return image;
}

/// A folder with train/ and val/ of `classes` classes: `each_val` pictures a class to validate, one more to train on.
inline void write_stripes(const std::filesystem::path& folder, int family, int classes, int each_val, int side = 40) {
  std::uint64_t seed = 0;
  for (const auto& [split, count] : {std::pair{"train", each_val + 1}, {"val", each_val}})
    for (int c = 0; c < classes; ++c) {
      const auto place = folder / split / ("stripes" + std::to_string(c));
      std::filesystem::create_directories(place);
      for (int i = 0; i < count; ++i) write_png(place / (std::to_string(i) + ".png"), stripes(family, c, seed++, side));
    }
}

}  // namespace frost::testing
