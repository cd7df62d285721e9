#include "models/yolo/evaluation/plots.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "engine/image/codec.h"

using namespace frost;
using namespace frost::yolo;

namespace {
bool has_colour(const Image& image, int x1, int y1, int x2, int y2, Colour c) {
  for (int y = y1; y < y2; ++y)
    for (int x = x1; x < x2; ++x)
      if (image.at(y, x)[0] == c.b && image.at(y, x)[1] == c.g && image.at(y, x)[2] == c.r) return true;
  return false;
}
}  // namespace

TEST_CASE("plots: the palette repeats after twenty classes") {
  CHECK(class_colour(0) == Colour{0xFF, 0x38, 0x38});
  CHECK(class_colour(19) == Colour{0xFF, 0x37, 0xC7});
  CHECK(class_colour(45) == class_colour(5));
}

TEST_CASE("plots: an image grid runs column by column and leaves weak predictions out") {
  std::vector<GridImage> items;
  for (int i = 0; i < 5; ++i) {
    GridImage item{.image = Image(60, 80, static_cast<std::uint8_t>(20 * i)), .title = "image " + std::to_string(i)};
    item.boxes.push_back({.box = {30, 30, 70, 55}, .label = i});
    if (i == 1) item.boxes.push_back({.box = {10, 40, 20, 50}, .label = 10, .confidence = 0.25f});
    if (i == 2) item.boxes.push_back({.box = {-10, -40, 200, 500}, .label = 11, .confidence = 0.9f});
    items.push_back(item);
  }
  const Image grid = draw_image_grid(items, {"zero", "one"});
  REQUIRE(grid.height == 180);  // 3 x 3 cells of 60 x 80
  REQUIRE(grid.width == 240);
  for (int i = 0; i < 5; ++i) {
    const int x = i / 3 * 80, y = i % 3 * 60;
    CAPTURE(i);
    CHECK(has_colour(grid, x, y, x + 80, y + 60, class_colour(i)));
    CHECK(grid.at(y, x)[0] == 255);                                  // the border
    CHECK(grid.at(y + 58, x + 40)[1] == 20 * i);                     // the picture
    CHECK(has_colour(grid, x, y, x + 80, y + 20, {220, 220, 220}));  // the title
  }
  CHECK(!has_colour(grid, 0, 0, grid.width, grid.height, class_colour(10)));
  CHECK(grid.at(170, 200)[0] == 255);  // no sixth image
  CHECK(draw_image_grid({}, {}).empty());
}

TEST_CASE("plots: a large batch is cut to sixteen images and shrunk") {
  std::vector<GridImage> items(
      20, GridImage{.image = Image(640, 512, 77), .boxes = {{.box = {100, 100, 500, 600}, .label = 3}}});
  const Image grid = draw_image_grid(items, {"a", "b", "c", "d"});
  CHECK(grid.height == 1920);
  CHECK(grid.width == 4 * 384);
  CHECK(has_colour(grid, 75 - 2, 75 - 2, 75 + 2, 460, class_colour(3)));  // boxes shrink with their image
  if (const char* folder = std::getenv("FROST_KEEP_PICTURES")) write_jpeg(std::string(folder) + "/grid.jpg", grid);
}
