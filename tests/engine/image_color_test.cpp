#include "engine/image/color.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/golden/images.h"
#include "tests/timing.h"

using namespace frost;
using golden::image_of;
using golden::worst;

TEST_CASE("hsv: check vectors") {
  Image bgr(1, 3);
  bgr.pixels = {10, 200, 30, 37, 90, 201, 90, 37, 201};
  CHECK(bgr_to_hsv(bgr).pixels == std::vector<std::uint8_t>{57, 242, 200, 10, 208, 201, 170, 208, 201});
}

TEST_CASE("hsv: OpenCV's pixels") {
  const auto file = golden::load("vision_hsv");
  for (const std::string name : {"wide", "narrow"}) {
    // `wide` runs in OpenCV's vector loop, whose truncation is ours: equal. `narrow` is its scalar loop, which rounds:
    // within 1.
    const int tolerance = name == "wide" ? 0 : 1;
    const Image source = image_of(file.at(name + ".image"));
    CHECK(worst(bgr_to_hsv(source), image_of(file.at(name + ".to_hsv"))) == 0);
    CHECK(worst(hsv_to_bgr(bgr_to_hsv(source)), image_of(file.at(name + ".to_hsv_and_back"))) <= tolerance);
    for (const std::string gains : {"mixed", "up", "down", "none"}) {
      const auto r = file.at(gains + ".r").values<double>();
      Image got = source;
      scale_hsv(got, r[0], r[1], r[2]);
      CHECK_MESSAGE(worst(got, image_of(file.at(name + "." + gains))) <= tolerance, name, " ", gains);
    }
  }
}

TEST_CASE("hsv: every value and chroma, with the exact reciprocals") {
  for (int order = 0; order < 6; ++order) {  // which channel is largest, and which smallest
    Image bgr(256, 256);
    std::vector<int> expected;
    for (int v = 0; v < 256; ++v) {
      for (int d = 0; d < 256; ++d) {
        const int chroma = std::min(d, v), middle = v - chroma / 3;
        std::array<int, 3> p = {};
        p[static_cast<std::size_t>(order / 2)] = v;
        p[static_cast<std::size_t>((order / 2 + 1 + order % 2) % 3)] = v - chroma;
        p[static_cast<std::size_t>((order / 2 + 2 - order % 2) % 3)] = middle;
        std::copy(p.begin(), p.end(), bgr.at(v, d));
        const auto [b, g, r] = p;
        const int saturation = v ? static_cast<int>(std::nearbyint(1044480.0 / v)) : 0,
                  hue = chroma ? static_cast<int>(std::nearbyint(737280 / (6.0 * chroma))) : 0;
        const int turn = v == r ? g - b : v == g ? b - r + 2 * chroma : r - g + 4 * chroma, h = (turn * hue + 2048) >> 12;
        for (int x : {h < 0 ? h + 180 : h, (chroma * saturation + 2048) >> 12, v}) expected.push_back(x);
      }
    }
    const Image got = bgr_to_hsv(bgr);
    CHECK(std::equal(got.pixels.begin(), got.pixels.end(), expected.begin()));
  }
}

TEST_CASE("hsv: every hue, saturation and value goes back to a colour that contains it") {
  Image hsv(180, 256);
  for (int value : {0, 1, 77, 200, 255}) {
    for (int h = 0; h < 180; ++h) {
      for (int s = 0; s < 256; ++s) {
        hsv.at(h, s)[0] = static_cast<std::uint8_t>(h);
        hsv.at(h, s)[1] = static_cast<std::uint8_t>(s);
        hsv.at(h, s)[2] = static_cast<std::uint8_t>(value);
      }
    }
    const Image bgr = hsv_to_bgr(hsv);
    int worst_value = 0, worst_low = 0;
    for (int h = 0; h < 180; ++h) {
      for (int s = 0; s < 256; ++s) {
        const auto* p = bgr.at(h, s);
        const int high = std::max({p[0], p[1], p[2]}), low = std::min({p[0], p[1], p[2]});
        worst_value = std::max(worst_value, std::abs(high - value));
        worst_low = std::max(worst_low, std::abs(low - value * (255 - s) / 255));
      }
    }
    CHECK(worst_value <= 1);  // truncation
    CHECK(worst_low <= 1);
    // Both forms of the loop (with and without fused multiply-add) agree: gains of 1 look up the same numbers.
    Image round_trip = hsv_to_bgr(bgr_to_hsv(bgr)), scaled = bgr;
    scale_hsv(scaled, 1, 1, 1);
    CHECK(worst(round_trip, scaled) == 0);
  }
}

TEST_CASE("flips and channel order") {
  for (const auto& [h, w] : {std::pair{1, 1}, {3, 4}, {4, 5}, {17, 33}}) {
    const Image source = golden::noise(h, w, "flip");
    Image columns = source, rows = source;
    flip_columns(columns);
    flip_rows(rows);
    std::vector<std::uint8_t> rgb(source.pixels.size());
    pack_rgb(source, rgb.data());
    bool good = true;
    for (int y = 0; y < h; ++y) {
      for (int x = 0; x < w; ++x) {
        for (int c = 0; c < 3; ++c) {
          good = good && columns.at(y, x)[c] == source.at(y, w - 1 - x)[c] && rows.at(y, x)[c] == source.at(h - 1 - y, x)[c];
          good = good && rgb[static_cast<std::size_t>((y * w + x) * 3 + c)] == source.at(y, x)[2 - c];
        }
      }
    }
    CHECK(good);
  }
}

TEST_CASE("speed of colour" * doctest::skip()) {
  Image image = golden::noise(320, 320, "speed");
  std::vector<std::uint8_t> rgb(image.pixels.size());
  timing::report("320x320 hsv gains", [&] { scale_hsv(image, 1.01, 1.3, 0.8); });
  timing::report("320x320 flip columns", [&] { flip_columns(image); });
  timing::report("320x320 flip rows", [&] { flip_rows(image); });
  timing::report("320x320 pack rgb", [&] { pack_rgb(image, rgb.data()); });
}
