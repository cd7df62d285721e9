#include "models/yolo/shapes_dataset.h"

#include <doctest/doctest.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <string>

#include "engine/image/codec.h"
#include "kernels/error.h"

using namespace frost;
namespace fs = std::filesystem;

namespace {
std::uint64_t hash(const ShapesSample& sample) {  // FNV-1a over pixels and labels in 1e-6
  std::uint64_t h = 0xcbf29ce484222325ULL;
  const auto add = [&](std::uint64_t v) { h = (h ^ v) * 0x100000001b3ULL; };
  for (const auto p : sample.image.pixels) add(p);
  for (const auto& l : sample.labels) {
    add(static_cast<std::uint64_t>(l.cls));
    for (const double v : {l.x, l.y, l.w, l.h}) add(static_cast<std::uint64_t>(v * 1e6 + 0.5));
  }
  return h;
}
}  // namespace

TEST_CASE("shapes: the same bits on every machine") {
  // Written down on x86-64; GCC 12 and Clang 14 agree, at -O0 and at -O3 -march=native. A change of the drawing changes
  // them; a change of compiler or flags must not.
  CHECK(hash(draw_shapes({}, ShapesSplit::train, 0)) == 6420387846883999094ULL);
  CHECK(hash(draw_shapes({.imgsz = 97, .shapes = first_shapes(6), .seed = 7}, ShapesSplit::val, 12)) ==
        3718196826144917909ULL);
}

TEST_CASE("shapes: seed, split and index each give another picture, and the same ones the same") {
  const auto first = hash(draw_shapes({.imgsz = 64}, ShapesSplit::train, 0));
  CHECK(first == hash(draw_shapes({.imgsz = 64}, ShapesSplit::train, 0)));
  CHECK(first != hash(draw_shapes({.imgsz = 64}, ShapesSplit::train, 1)));
  CHECK(first != hash(draw_shapes({.imgsz = 64}, ShapesSplit::val, 0)));
  CHECK(first != hash(draw_shapes({.imgsz = 64, .seed = 1}, ShapesSplit::train, 0)));
}

TEST_CASE("shapes: labels lie inside the picture, in the sizes and classes promised") {
  std::vector<int> per_class(5);
  int labels = 0;
  double largest = 0;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const auto sample = draw_shapes({.imgsz = 160, .shapes = first_shapes(5)}, ShapesSplit::train, i);
    CHECK(sample.image.width == 160);
    CHECK(sample.image.height == 160);
    CHECK(sample.labels.size() <= 5);
    for (const auto& l : sample.labels) {
      REQUIRE(l.cls >= 0);
      REQUIRE(l.cls < 5);
      ++per_class[static_cast<std::size_t>(l.cls)];
      ++labels;
      CHECK(l.x - l.w / 2 >= -1e-9);
      CHECK(l.y - l.h / 2 >= -1e-9);
      CHECK(l.x + l.w / 2 <= 1 + 1e-9);
      CHECK(l.y + l.h / 2 <= 1 + 1e-9);
      CHECK(std::min(l.w, l.h) > 0.02);  // what is mostly hidden has no label
      largest = std::max({largest, l.w, l.h});
    }
  }
  CHECK(labels > 250);  // 1 to 5 in a picture
  for (const int n : per_class) CHECK(n > 30);
  CHECK(largest > 0.35);
  CHECK(largest < 0.5);
}

TEST_CASE("shapes: a box is tight around its shape") {
  // Only pictures with one circle, well inside: its box is square, and its colour ends at the box's left side.
  int lone = 0;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const auto sample = draw_shapes({.imgsz = 200, .shapes = first_shapes(1)}, ShapesSplit::val, i);
    if (sample.labels.size() != 1) continue;
    const auto& l = sample.labels[0];
    if (l.x - l.w / 2 < 0.05 || l.y - l.h / 2 < 0.05 || l.x + l.w / 2 > 0.95 || l.y + l.h / 2 > 0.95) continue;
    ++lone;
    CHECK(std::abs(l.w - l.h) < 0.011);  // a circle: as wide as high, up to two pixels
    const auto color = [&](double x, double y) {
      const auto* p = sample.image.at(static_cast<int>(y * 200), static_cast<int>(x * 200));
      return std::array<int, 3>{p[0], p[1], p[2]};
    };
    const auto far = [](std::array<int, 3> a, std::array<int, 3> b) {
      return std::max({std::abs(a[0] - b[0]), std::abs(a[1] - b[1]), std::abs(a[2] - b[2])});
    };
    const auto left = color(l.x - l.w / 2 + 0.015, l.y), outside = color(l.x - l.w / 2 - 0.03, l.y);
    CHECK(far(left, outside) > 20);  // three pixels inside is paint, six pixels outside is ground
  }
  CHECK(lone >= 3);
}

TEST_CASE("shapes: the folder that is written can be read") {
  const fs::path folder = fs::temp_directory_path() / ("frost_shapes_" + std::to_string(getpid()));
  fs::remove_all(folder);
  write_shapes_dataset(folder, {.imgsz = 64, .shapes = first_shapes(3), .seed = 5}, 2, 1);
  const YAML::Node yaml = YAML::LoadFile((folder / "shapes.yaml").string());
  CHECK(yaml["names"].size() == 3);
  CHECK(yaml["names"][2].as<std::string>() == "triangle");
  for (const char* name : {"train/0000", "train/0001", "val/0000"}) {
    const Image image = decode_image(folder / "images" / (std::string(name) + ".jpg"));
    CHECK(image.width == 64);
    std::ifstream in(folder / "labels" / (std::string(name) + ".txt"));
    CHECK(in.good());
  }
  const auto expected = draw_shapes({.imgsz = 64, .shapes = first_shapes(3), .seed = 5}, ShapesSplit::train, 1).labels;
  std::ifstream in(folder / "labels/train/0001.txt");
  std::size_t row = 0;
  for (double cls, x, y, w, h; in >> cls >> x >> y >> w >> h; ++row) {
    REQUIRE(row < expected.size());
    CHECK(cls == expected[row].cls);
    CHECK(w == doctest::Approx(expected[row].w).epsilon(1e-4));
  }
  CHECK(row == expected.size());
  fs::remove_all(folder);

  std::ofstream(folder) << "a file";  // where a folder should go: fails for root too
  CHECK_THROWS_WITH_AS(write_shapes_dataset(folder, {}, 1, 1), doctest::Contains("cannot make this folder"), Error);
  fs::remove_all(folder);
  CHECK_THROWS_AS(draw_shapes({.imgsz = 16}, ShapesSplit::train, 0), Error);
  CHECK_THROWS_AS(first_shapes(7), Error);
  CHECK_THROWS_AS(draw_shapes({.shapes = {}}, ShapesSplit::train, 0), Error);
  CHECK_THROWS_WITH_AS(named_shapes({"ring", "hexagon"}), doctest::Contains("'hexagon' is not one of circle, square"),
                       Error);
}

TEST_CASE("shapes: named classes are numbered in the order given") {
  CHECK(named_shapes({"ring", "circle"}) == std::vector<int>{4, 0});
  // The same draws, other names: a set of circles is the same picture whatever number the class has.
  const auto circles = draw_shapes({.imgsz = 64, .shapes = named_shapes({"circle"})}, ShapesSplit::train, 3);
  const auto first = draw_shapes({.imgsz = 64, .shapes = first_shapes(1)}, ShapesSplit::train, 3);
  CHECK(hash(circles) == hash(first));
  const auto crosses = draw_shapes({.imgsz = 64, .shapes = named_shapes({"cross"})}, ShapesSplit::train, 3);
  CHECK(hash(crosses) != hash(first));
  REQUIRE_FALSE(crosses.labels.empty());
  CHECK(crosses.labels[0].cls == 0);
}
