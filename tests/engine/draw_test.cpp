#include "engine/image/draw.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

using namespace frost;

namespace {
int painted(const Image& image) {
  int count = 0;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) count += image.pixels[i] != 0 || image.pixels[i + 2] != 0;
  return count;
}
}  // namespace

TEST_CASE("draw: boxes cover the pixels they name, in BGR") {
  Image image(7, 9);
  fill_box(image, 2, 1, 4, 3, {10, 20, 30});
  CHECK(painted(image) == 9);
  CHECK(image.at(1, 2)[0] == 30);
  CHECK(image.at(3, 4)[1] == 20);
  CHECK(image.at(3, 4)[2] == 10);
  Image outline(7, 9);
  draw_box(outline, 1, 1, 7, 5, {255, 0, 0}, 1);
  CHECK(painted(outline) == 2 * 7 + 2 * 3);
  draw_box(outline, 1, 1, 7, 5, {255, 0, 0}, 2);
  CHECK(painted(outline) == 7 * 5 - 3 * 1);
}

TEST_CASE("draw: nothing is written outside the image") {
  Image image(4, 5);
  fill_box(image, -100, -100, 100, 100, {1, 1, 1});
  CHECK(painted(image) == 20);
  draw_box(image, -5, -5, 50, 2, {1, 1, 1}, 3);
  draw_box(image, 3, 3, 1, 1, {1, 1, 1}, 2);  // inside out
  draw_text(image, -3, -2, "outside", {1, 1, 1}, 3);
  draw_text(image, 100, 100, "outside", {1, 1, 1});
  Image other(3, 3, 9);
  for (const int x : {-3, -1, 0, 4, 5}) paste(image, other, x, x);
  CHECK(image.at(0, 0)[0] == 9);
  CHECK(image.at(3, 0)[0] == 1);
  CHECK(image.at(1, 1)[0] == 9);
}

TEST_CASE("draw: every character has a shape of its own") {
  std::set<std::vector<std::uint8_t>> shapes;
  for (char c = ' '; c <= '~'; ++c) {
    Image image(7, 5);
    draw_text(image, 0, 0, std::string(1, c), {255, 255, 255});
    CHECK((painted(image) > 0) == (c != ' '));
    shapes.insert(image.pixels);
  }
  CHECK(shapes.size() == 95);
  Image twice(14, 10), once(7, 5);
  draw_text(twice, 0, 0, "R", {255, 255, 255}, 2);
  draw_text(once, 0, 0, "R", {255, 255, 255});
  CHECK(painted(twice) == 4 * painted(once));
}

TEST_CASE("draw: text measures itself by characters, not bytes") {
  CHECK(text_width("") == 0);
  CHECK(text_width("a") == 5);
  CHECK(text_width("ab", 2) == 22);
  CHECK(text_width("\xc3\xbc") == 5);
  CHECK(text_height(3) == 21);
}
