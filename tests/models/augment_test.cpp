#include "models/yolo/data/augment.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "engine/image/resize.h"
#include "kernels/error.h"
#include "tests/golden/images.h"
#include "tests/timing.h"

using namespace frost;
using namespace frost::yolo;
using golden::image_of;
using golden::worst;

namespace {

std::vector<PixelBox> boxes_of(const golden::Tensor& t) {
  const auto v = t.f32();
  std::vector<PixelBox> out;
  for (std::size_t i = 0; i < v.size(); i += 5) out.push_back({v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4]});
  return out;
}

std::vector<LabelRow> rows_of(const golden::Tensor& t) {
  const auto v = t.f32();
  std::vector<LabelRow> out;
  for (std::size_t i = 0; i < v.size(); i += 5) out.push_back({v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4]});
  return out;
}

PerspectiveDraws draws_of(const golden::Tensor& t) {
  const auto d = t.values<double>();
  return {d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]};
}

/// The largest difference of a coordinate; 1000 where number or classes differ.
double worst_box(const std::vector<PixelBox>& a, const std::vector<PixelBox>& b) {
  if (a.size() != b.size()) return 1000;
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].cls != b[i].cls) return 1000;
    for (const float d : {a[i].x1 - b[i].x1, a[i].y1 - b[i].y1, a[i].x2 - b[i].x2, a[i].y2 - b[i].y2})
      most = std::max<double>(most, std::abs(d));
  }
  return most;
}

LoadedImage loaded(Image image, const std::vector<LabelRow>& rows, const std::vector<Segment>& segments) {
  return {std::make_shared<const Image>(std::move(image)), rows, segments};
}

/// Noise pictures, each with one box in the middle.
struct Pictures {
  std::vector<std::shared_ptr<const Image>> images;
  std::vector<LabelRow> rows = {{3, 0.5f, 0.5f, 0.4f, 0.4f}};
  std::vector<std::int64_t> indices;
  Pictures(int count, int height, int width) {
    for (int i = 0; i < count; ++i) {
      images.push_back(std::make_shared<const Image>(golden::noise(height, width, "picture" + std::to_string(i))));
      indices.push_back(i);
    }
  }
  ItemSource source(int size) const {
    return {.load =
                [this](std::int64_t i) {
                  return LoadedImage{images.at(static_cast<std::size_t>(i)), rows, {}};
                },
            .index_list = indices,
            .count = std::ssize(indices),
            .size = size,
            .height = size,
            .width = size,
            .params = {}};
  }
};

}  // namespace

TEST_CASE("random_perspective: matrices, pictures, boxes") {
  const auto file = golden::load("vision_perspective");
  const Image source = image_of(file.at("image"));
  int compared = 0;
  for (const auto& [name, text] : file.facts) {
    if (!file.has(name + ".draws")) continue;
    const auto fact = nlohmann::json::parse(text);
    const int border_y = fact["border_hw"][0], border_x = fact["border_hw"][1];
    const bool perspective = fact["uses_perspective_warp"];
    const PerspectiveDraws draws = draws_of(file.at(name + ".draws"));
    const Matrix3 m = perspective_matrix(draws, 53, 71, 53 + 2 * border_y, 71 + 2 * border_x);
    const auto expected = file.at(name + ".matrix").values<double>();
    for (std::size_t i = 0; i < 9; ++i) CHECK(std::abs(m[i] - expected[i]) <= 1e-12 * std::max(1.0, std::abs(expected[i])));
    const Sample got = random_perspective({source, boxes_of(file.at("boxes")), {}}, draws, perspective, border_y, border_x);
    CHECK_MESSAGE(worst(got.image, image_of(file.at(name + ".image"))) == 0, name);
    CHECK_MESSAGE(worst_box(got.boxes, boxes_of(file.at(name + ".boxes"))) < 1e-4, name);  // pixels; single precision of 100
    ++compared;
  }
  CHECK(compared == 10);
}

TEST_CASE("mosaic: canvas, boxes, result") {
  const auto file = golden::load("vision_mosaic");
  std::array<std::vector<LabelRow>, 4> rows;
  std::array<LoadedImage, 4> tiles;
  for (std::size_t i = 0; i < 4; ++i) {
    rows[i] = rows_of(file.at("labels" + std::to_string(i)));
    tiles[i] = loaded(image_of(file.at("image" + std::to_string(i))), rows[i], {});
  }
  for (const std::string name : {"inside", "corner", "far"}) {
    const auto centre = file.at(name + ".centre_yx").values<std::int32_t>();
    const Sample canvas = make_mosaic(tiles, 64, centre[0], centre[1]);
    CHECK(worst(canvas.image, image_of(file.at(name + ".canvas"))) == 0);
    CHECK(worst_box(canvas.boxes, boxes_of(file.at(name + ".canvas_boxes"))) < 1e-4);
    const Sample got = random_perspective(canvas, draws_of(file.at(name + ".draws")), false, -32, -32);
    CHECK(worst(got.image, image_of(file.at(name + ".image"))) == 0);
    CHECK(worst_box(got.boxes, boxes_of(file.at(name + ".boxes"))) < 1e-4);
  }
}

TEST_CASE("mixup: OpenCV's pixels") {
  const auto file = golden::load("vision_mixup");
  for (const auto& [name, ratio] : {std::pair{"ratio_0.5", 0.5}, {"ratio_0.4375", 0.4375}, {"ratio_0.613", 0.613}}) {
    Sample a{image_of(file.at("a")), {{1, 2, 3, 4, 5}}, {}};
    mixup(a, {image_of(file.at("b")), {{6, 7, 8, 9, 10}}, {}}, ratio);
    CHECK_MESSAGE(worst(a.image, image_of(file.at(std::string(name) + ".image"))) == 0, name);
    REQUIRE(a.boxes.size() == 2);
    CHECK(a.boxes[1].cls == 6);
  }
  Sample small{Image(3, 3), {}, {}};
  CHECK_THROWS_AS(mixup(small, {Image(3, 4), {}, {}}, 0.5), Error);
}

TEST_CASE("box_candidate: the thresholds") {
  const std::array<double, 4> old = {0, 0, 10, 10};
  CHECK(box_candidate(old, {0, 0, 4, 4}, 0.10));
  CHECK_FALSE(box_candidate(old, {0, 0, 3, 3}, 0.10));               // 9 % of the area
  CHECK(box_candidate(old, {0, 0, 3, 3}, 0.01));                     // enough for polygons
  CHECK_FALSE(box_candidate(old, {0, 0, 2, 10}, 0.10));              // sides must be more than 2
  CHECK_FALSE(box_candidate({0, 0, 400, 3}, {0, 0, 400, 3}, 0.10));  // 133 : 1
}

TEST_CASE("labels: pixels and back") {
  const LabelRow row = {2, 0.5f, 0.25f, 0.2f, 0.1f};
  const PixelBox box = to_pixels(row, 200, 100, 3.5f, 7);
  CHECK(worst_box({box}, {{2, 83.5f, 27, 123.5f, 37}}) < 1e-5);
  const LabelRow back = to_fractions({2, 80, 20, 120, 30}, 200, 100);
  CHECK(std::abs(back.x - 0.5f) + std::abs(back.y - 0.25f) + std::abs(back.w - 0.2f) + std::abs(back.h - 0.1f) < 1e-6);
  const LabelRow clipped = to_fractions({2, -50, 0, 250, 100}, 200, 100);
  CHECK(std::abs(clipped.w - 199.999f / 200) < 1e-6);
  CHECK(std::abs(clipped.h - 99.999f / 100) < 1e-6);
}

TEST_CASE("polygons decide the boxes") {
  // A diamond: turned by 45 degrees it is a square of side 40 / sqrt(2), while the turned corners of its box would give 40 *
  // sqrt(2).
  Sample sample{Image(100, 100), {{1, 30, 30, 70, 70}}, {{50, 30, 70, 50, 50, 70, 30, 50}}};
  Sample got = random_perspective(sample, {.angle = 45}, false, 0, 0);
  REQUIRE(got.boxes.size() == 1);
  const double half = 20 / std::sqrt(2.0);
  CHECK(std::abs(got.boxes[0].x1 - (50 - half)) < 0.05);  // the 1000 points miss the corners by up to 0.04
  CHECK(std::abs(got.boxes[0].y2 - (50 + half)) < 0.05);
  // Out of the picture: no point inside, no box.
  CHECK(random_perspective(sample, {.translate_x = 3}, false, 0, 0).boxes.empty());
  // A label beyond the list of polygons loses its box (upstream's quirk), all-zero polygons are none.
  sample.boxes.push_back({2, 10, 10, 40, 40});
  CHECK(random_perspective(sample, {}, false, 0, 0).boxes.size() == 1);
  sample.segments = {{0, 0, 0, 0, 0, 0}};
  CHECK(random_perspective(sample, {}, false, 0, 0).boxes.size() == 2);
}

TEST_CASE("copy_paste mirrors an object with its label") {
  Sample sample{Image(40, 60, 9), {{5, 4, 10, 14, 20}}, {{4, 10, 14, 10, 14, 20, 4, 20}}};
  for (int y = 10; y <= 20; ++y) {
    for (int x = 4; x <= 14; ++x) sample.image.at(y, x)[0] = static_cast<std::uint8_t>(100 + x);
  }
  const Image before = sample.image;
  Rng rng(1);
  copy_paste(sample, 0, rng);
  CHECK(sample.boxes.size() == 1);
  copy_paste(sample, 1, rng);
  REQUIRE(sample.boxes.size() == 2);
  CHECK(worst_box({sample.boxes[1]}, {{5, 46, 10, 56, 20}}) == 0);
  CHECK(sample.segments[1] == Segment{56, 10, 46, 10, 46, 20, 56, 20});
  for (int y = 0; y < 40; ++y) {
    for (int x = 0; x < 60; ++x) {
      const bool pasted = y >= 10 && y <= 20 && 59 - x >= 4 && 59 - x <= 14;  // the filled contour includes its border
      CHECK(sample.image.at(y, x)[0] == (pasted ? before.at(y, 59 - x)[0] : before.at(y, x)[0]));
    }
  }
  // An object in the middle would hide itself: nothing happens.
  Sample middle{Image(40, 60), {{5, 25, 10, 35, 20}}, {{25, 10, 35, 10, 35, 20, 25, 20}}};
  copy_paste(middle, 1, rng);
  CHECK(middle.boxes.size() == 1);
  // Polygons that leave the picture are cut.
  Sample outside{Image(20, 20), {{0, -5, -5, 3, 30}}, {{-5, -5, 3, -5, 3, 30, -5, 30}}};
  copy_paste(outside, 1, rng);
  CHECK(outside.boxes.size() == 2);
}

TEST_CASE("draws: ranges, order, distribution") {
  Rng rng(7);
  const AugmentParams p{.degrees = 10, .translate = 0.2, .scale = 0.5, .shear = 3, .perspective = 0.001};
  double mean = 0, square = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const double r = draw_mixup_ratio(rng);
    mean += r / kDraws;
    square += r * r / kDraws;
  }
  CHECK(std::abs(mean - 0.5) < 0.003);  // Beta(32, 32): 1/2, variance 1/260; five standard errors
  CHECK(std::abs(square - mean * mean - 1.0 / 260) < 0.0002);
  std::set<std::array<std::int64_t, 4>> orders;
  const std::vector<std::int64_t> list = {4, 5, 6};
  for (int i = 0; i < 1000; ++i) {
    const PerspectiveDraws d = draw_perspective(p, rng);
    CHECK(std::abs(d.angle) <= 10);
    CHECK(std::abs(d.scale - 1) <= 0.5);
    CHECK(std::abs(d.shear_y) <= 3);
    CHECK(std::abs(d.perspective_x) <= 0.001);
    CHECK(std::abs(d.translate_y - 0.5) <= 0.2);
    const MosaicPlan plan = draw_mosaic(9, list, 64, rng);
    CHECK((plan.centre_y >= 32 && plan.centre_y < 96 && plan.centre_x >= 32 && plan.centre_x < 96));
    CHECK(std::count(plan.tiles.begin(), plan.tiles.end(), 9) == 1);
    orders.insert(plan.tiles);
  }
  CHECK(orders.size() == 4 * 27);  // the own image in each of four places, any of three in the others
}

TEST_CASE("items: same stream, same bytes; labels stay on their objects") {
  const Pictures pictures(5, 48, 64);
  ItemSource source = pictures.source(64);
  source.params.mixup = 0.5;
  source.params.flipud = 0.5;
  for (int index = 0; index < 5; ++index) {
    Rng a(1, 2, 3), b(1, 2, 3), c(1, 2, 4);
    const TrainingItem first = training_item(index, source, a), second = training_item(index, source, b),
                       other = training_item(index, source, c);
    CHECK(first.image.height == 64);
    CHECK(first.image.width == 64);
    CHECK(worst(first.image, second.image) == 0);
    CHECK(first.rows == second.rows);
    CHECK(worst(first.image, other.image) > 0);
    for (const LabelRow& row : first.rows) {
      CHECK(row.cls == 3);
      CHECK((row.x - row.w / 2 > -1e-4 && row.x + row.w / 2 < 1 + 1e-4 && row.y - row.h / 2 > -1e-4 &&
             row.y + row.h / 2 < 1 + 1e-4));
    }
  }
  // Without any augmentation an item is its letterboxed picture.
  source.params = {.hsv_h = 0, .hsv_s = 0, .hsv_v = 0, .translate = 0, .scale = 0, .fliplr = 0, .mosaic = 0};
  Rng rng(1);
  const TrainingItem plain = training_item(2, source, rng);
  CHECK(worst(plain.image, letterbox(*pictures.images[2], {.height = 64, .width = 64}).image) == 0);
  REQUIRE(plain.rows.size() == 1);
  CHECK(std::abs(plain.rows[0].w - 0.4f) < 1e-5);
  CHECK(std::abs(plain.rows[0].h - 0.3f) < 1e-5);
  // Rectangular batches: the batch's shape, never a mosaic; a flip moves the label with the picture.
  source.rectangular = true;
  source.height = 48;
  source.params.mosaic = 1;
  source.params.fliplr = 1;
  const std::vector<LabelRow> corner = {{1, 0.25f, 0.5f, 0.2f, 0.2f}};
  source.load = [&](std::int64_t i) { return LoadedImage{pictures.images.at(static_cast<std::size_t>(i)), corner, {}}; };
  const TrainingItem flipped = training_item(2, source, rng);
  CHECK(flipped.image.height == 48);
  CHECK(std::equal(flipped.image.at(5, 0), flipped.image.at(5, 0) + 3, pictures.images[2]->at(5, 63)));
  CHECK(std::abs(flipped.rows[0].x - 0.75f) < 1e-5);
}

TEST_CASE("speed of items" * doctest::skip()) {
  const Pictures pictures(8, 240, 320);
  const ItemSource source = pictures.source(320);
  std::array<LoadedImage, 4> tiles;
  for (std::size_t i = 0; i < 4; ++i) tiles[i] = source.load(static_cast<std::int64_t>(i));
  timing::report("mosaic canvas 640x640", [&] { (void)make_mosaic(tiles, 320, 300, 350); });
  Sample sample{*pictures.images[0], {}, {}};
  const Sample partner{*pictures.images[1], {}, {}};
  timing::report("mixup 320x240", [&] { mixup(sample, partner, 0.5); });
  std::uint64_t n = 0;
  timing::report("whole mosaic item 320x320 (cached pictures)", [&] {
    Rng rng(1, 2, n++);
    (void)training_item(static_cast<std::int64_t>(n % 8), source, rng);
  });
}
