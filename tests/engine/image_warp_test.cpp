#include "engine/image/warp.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/golden/images.h"
#include "tests/timing.h"

using namespace frost;
using golden::worst;

namespace {

/// The formula of the specification, pixel by pixel, without any notion of inside and outside.
Image plain_affine(const Image& source, const Matrix3& m, int height, int width, int fill) {
  const double det = m[0] * m[4] - m[1] * m[3], d = det != 0 ? 1 / det : 0, a = m[4] * d, b = m[1] * -d, c = m[3] * -d,
               e = m[0] * d;
  const double f = -a * m[2] - b * m[5], g = -c * m[2] - e * m[5];
  Image out(height, width);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const auto px = (std::llrint(a * x * 1024) + std::llrint((b * y + f) * 1024) + 16) >> 5;
      const auto py = (std::llrint(c * x * 1024) + std::llrint((e * y + g) * 1024) + 16) >> 5;
      const auto fx = px & 31, fy = py & 31;
      for (int k = 0; k < 3; ++k) {
        const auto tap = [&](long long row, long long column) -> long long {
          const bool inside = row >= 0 && row < source.height && column >= 0 && column < source.width;
          return inside ? source.at(static_cast<int>(row), static_cast<int>(column))[k] : fill;
        };
        const auto sy = py >> 5, sx = px >> 5;
        const auto sum = (32 - fx) * (32 - fy) * 32 * tap(sy, sx) + fx * (32 - fy) * 32 * tap(sy, sx + 1) +
                         (32 - fx) * fy * 32 * tap(sy + 1, sx) + fx * fy * 32 * tap(sy + 1, sx + 1);
        out.at(y, x)[k] = static_cast<std::uint8_t>((sum + 16384) >> 15);
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("warp: check vector") {
  Image source(5, 5);
  const int row[5] = {0, 13, 27, 31, 45};
  for (int y = 0; y < 5; ++y) {
    for (int x = 0; x < 5; ++x) std::fill_n(source.at(y, x), 3, static_cast<std::uint8_t>(50 * y + row[x]));
  }
  const Image got = warp_affine(source, {1.1, 0.2, -0.7, -0.15, 0.9, 0.6, 0, 0, 1}, 4, 5, 114);
  const std::vector<int> expected = {65, 59,  50,  44,  63,  33,  54,  70,  82,  102,
                                     86, 104, 123, 134, 153, 136, 156, 176, 186, 205};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (std::size_t c = 0; c < 3; ++c) CHECK(got.pixels[3 * i + c] == expected[i]);
  }
}

TEST_CASE("warp: spans and wide loads give what the plain formula gives") {
  const golden::Fill random("warps");
  std::uint64_t draw = 0;
  const auto u = [&](double low, double high) { return low + (high - low) * random.u(draw++); };
  for (int round = 0; round < 400; ++round) {
    const int h = static_cast<int>(u(1, 24)), w = static_cast<int>(u(1, 24)), oh = static_cast<int>(u(1, 30)),
              ow = static_cast<int>(u(1, 30));
    const double angle = u(-3.2, 3.2) * (round % 3 != 0), g = u(0.2, 2.5), tilt = u(-0.5, 0.5) * (round % 2);
    const Matrix3 m = {g * std::cos(angle),
                       g * std::sin(angle) + tilt,
                       u(-20, 20),
                       -g * std::sin(angle),
                       g * std::cos(angle),
                       u(-20, 20),
                       0,
                       0,
                       1};
    const Image source = golden::noise(h, w, "warp");
    REQUIRE(worst(warp_affine(source, m, oh, ow, 114), plain_affine(source, m, oh, ow, 114)) == 0);
    // The last row of a perspective matrix being (0, 0, 1), both warps show one picture but for the rounding of coordinates.
    CHECK(warp_perspective(source, m, oh, ow, 114).pixels.size() == static_cast<std::size_t>(oh * ow * 3));
  }
}

TEST_CASE("warp: extreme matrices are harmless") {
  const Image source = golden::noise(7, 9, "extreme");
  for (const Matrix3& m :
       {Matrix3{0, 0, 0, 0, 0, 0, 0, 0, 0}, Matrix3{1e-9, 0, 0, 0, 1e-9, 0, 0, 0, 1}, Matrix3{1e9, 0, 0, 0, 1e9, 0, 0, 0, 1},
        Matrix3{1, 0, 1e12, 0, 1, -1e12, 0, 0, 1}, Matrix3{1, 0, 0, 0, 1, 0, 0.5, -0.5, 0}}) {
    CHECK(warp_affine(source, m, 11, 13).pixels.size() == 11 * 13 * 3);
    CHECK(warp_perspective(source, m, 11, 13).pixels.size() == 11 * 13 * 3);
  }
  CHECK_THROWS(warp_affine(Image(), kIdentity3, 3, 3));
  CHECK(worst(warp_affine(source, kIdentity3, 7, 9), source) == 0);
  CHECK(worst(warp_perspective(source, kIdentity3, 7, 9), source) == 0);
}

TEST_CASE("speed of warping" * doctest::skip()) {
  const Image canvas = golden::noise(640, 640, "speed");
  const double c = std::cos(0.1), s = std::sin(0.1);
  timing::report("affine 640 to 320, scale 0.8, no rotation", [&] {
    (void)warp_affine(canvas, {0.8, 0, -97.3, 0, 0.8, -91.7, 0, 0, 1}, 320, 320);
  });
  timing::report("affine 640 to 320, rotated", [&] {
    (void)warp_affine(canvas, {c, s, -173, -s, c, -130, 0, 0, 1}, 320, 320);
  });
  timing::report("perspective 640 to 320", [&] {
    (void)warp_perspective(canvas, {c, s, -173, -s, c, -130, 1e-4, 2e-4, 1}, 320, 320);
  });
}
