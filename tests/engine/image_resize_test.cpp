#include "engine/image/resize.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/golden/images.h"
#include "tests/timing.h"

using namespace frost;
using golden::image_of;
using golden::worst;

namespace {

Image five_by_five() {  // the check vectors' source, the same in all channels
  Image image(5, 5);
  const int row[5] = {0, 13, 27, 31, 45};
  for (int y = 0; y < 5; ++y) {
    for (int x = 0; x < 5; ++x) std::fill_n(image.at(y, x), 3, static_cast<std::uint8_t>(50 * y + row[x]));
  }
  return image;
}

std::vector<int> channel(const Image& image, int c, int first_row, int last_row) {
  std::vector<int> out;
  for (int y = first_row; y < last_row; ++y) {
    for (int x = 0; x < image.width; ++x) out.push_back(image.at(y, x)[c]);
  }
  return out;
}

}  // namespace

TEST_CASE("resize: check vectors") {
  const Image source = five_by_five();
  for (int c = 0; c < 3; ++c) {
    CHECK(channel(resize_linear(source, 3, 3), c, 0, 3) == std::vector{21, 43, 57, 104, 127, 140, 187, 210, 223});
    CHECK(channel(resize_area(source, 3, 3), c, 0, 3) == std::vector{25, 45, 59, 105, 125, 139, 185, 205, 219});
    const Image wide = resize_linear(source, 7, 8);
    CHECK(channel(wide, c, 0, 2) == std::vector{0, 6, 14, 22, 28, 31, 39, 45, 29, 34, 42, 51, 57, 59, 67, 74});
    CHECK(channel(wide, c, 6, 7) == std::vector{200, 206, 214, 223, 228, 231, 239, 245});
    CHECK(channel(resize_linear(source, 4, 2), c, 0, 4) == std::vector{16, 41, 78, 103, 141, 166, 203, 228});
    CHECK(channel(resize_area(source, 4, 2), c, 0, 4) == std::vector{21, 46, 81, 106, 141, 166, 201, 226});
  }
}

TEST_CASE("resize: OpenCV's pixels, bit for bit") {
  const auto file = golden::load("vision_resize");
  int compared = 0;
  for (const auto& [name, tensor] : file.tensors) {
    const auto dot = name.find('.'), to = name.find("_to_");
    if (to == std::string::npos) continue;
    const Image source = image_of(file.at(name.substr(dot + 1, to - dot - 1) + ".image")), expected = image_of(tensor);
    const bool area = name.starts_with("area");
    const Image got =
        area ? resize_area(source, expected.height, expected.width) : resize_linear(source, expected.height, expected.width);
    CHECK_MESSAGE(worst(got, expected) == 0, name);
    ++compared;
  }
  CHECK(compared == 20);
}

TEST_CASE("resize: every small size stays inside its buffers and near the float result") {
  // Under the address sanitizer this is the guard test of the wide loads and stores.
  for (int h = 1; h <= 5; ++h) {
    for (int w = 1; w <= 6; ++w) {
      const Image source = golden::noise(h, w, "small");
      for (int oh = 1; oh <= 8; ++oh) {
        for (int ow = 1; ow <= 8; ++ow) {
          const Image got = resize_linear(source, oh, ow);
          (void)resize_area(source, oh, ow);
          if (2 * oh == h && 2 * ow == w) continue;  // the 2 x 2 mean is tested above
          for (int y = 0; y < oh; ++y) {
            for (int x = 0; x < ow; ++x) {
              const double fy = std::max((y + 0.5) * h / oh - 0.5, 0.0), fx = std::max((x + 0.5) * w / ow - 0.5, 0.0);
              const int y0 = std::min(static_cast<int>(fy), h - 1), x0 = std::min(static_cast<int>(fx), w - 1);
              const int y1 = std::min(y0 + 1, h - 1), x1 = std::min(x0 + 1, w - 1);
              const double a = fy - y0, b = fx - x0;
              const double expected = (1 - a) * ((1 - b) * source.at(y0, x0)[1] + b * source.at(y0, x1)[1]) +
                                      a * ((1 - b) * source.at(y1, x0)[1] + b * source.at(y1, x1)[1]);
              CHECK(std::abs(got.at(y, x)[1] - expected) < 1.01);  // spec: agrees within one level
            }
          }
        }
      }
    }
  }
}

TEST_CASE("resize_longest: YOLOv5's truncation") {
  CHECK(resize_longest(Image(10, 77), 640, false).width == 639);  // 77 * (640 / 77.) < 640
  CHECK(resize_longest(Image(480, 640), 320, true).height == 240);
  CHECK(resize_longest(Image(427, 640), 320, true).height == 213);
  CHECK(resize_longest(Image(640, 427), 640, true).width == 427);
  const Image odd = golden::noise(53, 71, "longest");
  CHECK(worst(resize_longest(odd, 40, true), resize_area(odd, 29, 40)) == 0);
  CHECK(worst(resize_longest(odd, 40, false), resize_linear(odd, 29, 40)) == 0);
  CHECK(worst(resize_longest(odd, 100, true), resize_linear(odd, 74, 100)) == 0);
  CHECK_THROWS(resize_linear(Image(), 3, 3));
  CHECK_THROWS(resize_linear(odd, 0, 3));
}

TEST_CASE("letterbox: reference pictures, ratios and pads") {
  const auto file = golden::load("vision_letterbox");
  const Image source = image_of(file.at("image"));
  int compared = 0;
  for (const auto& [name, text] : file.facts) {
    if (!file.has(name + ".image")) continue;
    const auto fact = nlohmann::json::parse(text);
    const auto shape = fact["new_shape"];
    LetterboxOptions options{
        .minimal = fact["auto"], .stretch = fact["scaleFill"], .enlarge = fact["scaleup"], .stride = fact["stride"]};
    options.height = shape.is_array() ? shape[0].get<int>() : shape.get<int>();
    options.width = shape.is_array() ? shape[1].get<int>() : shape.get<int>();
    const Image expected = image_of(file.at(name + ".image"));
    const auto got = letterbox(source, options);
    CHECK_MESSAGE(worst(got.image, expected) == 0, name);
    CHECK(std::vector{got.box.ratio_w, got.box.ratio_h} == file.at(name + ".ratio_wh").values<double>());
    CHECK(std::vector{got.box.pad_w, got.box.pad_h} == file.at(name + ".pad_wh").values<double>());
    // Straight into a batch: the same picture with red first, and not a byte beside it.
    std::vector<std::uint8_t> slot(got.image.pixels.size() + 16, 77);
    letterbox_rgb(source, options, slot.data() + 8);
    bool same = true;
    for (std::size_t i = 0; i < got.image.pixels.size(); ++i)
      same = same && slot[8 + i] == got.image.pixels[i - i % 3 + 2 - i % 3];
    CHECK(same);
    CHECK(std::count(slot.begin(), slot.begin() + 8, 77) == 8);
    CHECK(std::count(slot.end() - 8, slot.end(), 77) == 8);
    ++compared;
  }
  CHECK(compared == 11);
}

TEST_CASE("letterbox: the specification's numbers") {
  auto box = plan_letterbox(427, 640, {});
  CHECK(box.pad_w == 0);
  CHECK(box.pad_h == 106.5);
  CHECK(box.top == 106);
  CHECK(box.bottom == 107);
  box = plan_letterbox(427, 640, {.minimal = true});
  CHECK(box.height() == 448);
  CHECK(box.width() == 640);
  CHECK(box.pad_h == 10.5);
  box = plan_letterbox(1080, 810, {.minimal = true});
  CHECK(box.height() == 640);
  CHECK(box.width() == 480);
  box = plan_letterbox(639, 640, {.enlarge = false});
  CHECK(box.pad_h == 0.5);
  CHECK(box.top == 0);
  CHECK(box.bottom == 1);
}

TEST_CASE("antialiased: Pillow's BILINEAR, bit for bit") {
  struct Case {
    int height, width, new_height, new_width;
    std::uint64_t hash;  // FNV-1a over R G B, from Pillow 13.0
  };
  for (const Case& c : {Case{37, 53, 16, 23, 0xad90939b5793a406}, Case{40, 31, 128, 99, 0x3ace8d29132b75bd},
                        Case{100, 64, 64, 64, 0x08585883a670d068}, Case{64, 100, 33, 100, 0xbc5395d9c83d0fe5},
                        Case{5, 7, 3, 2, 0xeab3aab1956e03c7}}) {
    CAPTURE(c.height);
    Image source(c.height, c.width);
    for (int y = 0; y < c.height; ++y)
      for (int x = 0; x < c.width; ++x) {
        const int rgb[3] = {x * 37 + y * 101 + x * y % 17 * 9, x * x + 3 * y * 7, 255 - (x * 5 + y * 11)};
        for (int k = 0; k < 3; ++k) source.at(y, x)[2 - k] = static_cast<std::uint8_t>(rgb[k] & 255);
      }
    const Image out = resize_antialiased(source, c.new_height, c.new_width);
    REQUIRE(out.height == c.new_height);
    REQUIRE(out.width == c.new_width);
    std::uint64_t hash = 0xcbf29ce484222325;
    for (int y = 0; y < out.height; ++y)
      for (int x = 0; x < out.width; ++x)
        for (int k = 0; k < 3; ++k) hash = (hash ^ out.at(y, x)[2 - k]) * 0x100000001b3;
    CHECK(hash == c.hash);
  }
}

TEST_CASE("crop: a part, or a clear no") {
  const Image source = golden::noise(9, 11, "crop");
  const Image part = crop(source, 2, 3, 4, 5);
  CHECK(part.height == 4);
  CHECK(part.width == 5);
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 5; ++x)
      for (int k = 0; k < 3; ++k) CHECK(part.at(y, x)[k] == source.at(y + 2, x + 3)[k]);
  CHECK_THROWS(crop(source, 6, 0, 4, 5));
}

TEST_CASE("speed of resizing" * doctest::skip()) {
  const Image source = golden::noise(480, 640, "speed"), odd = golden::noise(427, 640, "speed");
  timing::report("640x480 to 320x240 (2x2 mean)", [&] { (void)resize_linear(source, 240, 320); });
  timing::report("640x427 to 320x213 linear", [&] { (void)resize_linear(odd, 213, 320); });
  timing::report("640x427 to 320x213 area", [&] { (void)resize_area(odd, 213, 320); });
  timing::report("640x427 to 416x277 linear", [&] { (void)resize_linear(odd, 277, 416); });
  std::vector<std::uint8_t> slot(640 * 640 * 3);
  timing::report("640x427 letterboxed to 640x640 rgb", [&] { letterbox_rgb(odd, {}, slot.data()); });
}
