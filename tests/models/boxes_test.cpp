#include "models/yolo/boxes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "tests/golden/golden.h"

using namespace frost;
using namespace frost::yolo;

namespace {

using Four = std::array<float, 4>;
Four four(const BoxXyxy& b) { return {b.x1, b.y1, b.x2, b.y2}; }
Four four(const BoxXywh& b) { return {b.x, b.y, b.w, b.h}; }

// Applies `convert` to each row of `input`; the largest difference to the rows of `expected`.
double worst(const golden::File& file, const std::string& input, const std::string& expected,
             const std::function<Four(const Four&)>& convert) {
  const auto in = file.at(input).f32(), out = file.at(expected).f32();
  double error = 0;
  for (std::size_t r = 0; r < in.size() / 4; ++r) {
    const Four got = convert({in[4 * r], in[4 * r + 1], in[4 * r + 2], in[4 * r + 3]});
    for (std::size_t k = 0; k < 4; ++k) error = std::max(error, std::abs(static_cast<double>(got[k]) - out[4 * r + k]));
  }
  return error;
}

}  // namespace

TEST_CASE("boxes: golden conversions") {
  const auto file = golden::load("vision_boxes");
  const auto xyxy = [](const Four& v) { return BoxXyxy{v[0], v[1], v[2], v[3]}; };
  const auto xywh = [](const Four& v) { return BoxXywh{v[0], v[1], v[2], v[3]}; };
  // The reference was computed in double: a few float32 roundings of numbers up to 150 remain.
  CHECK(worst(file, "xyxy", "xyxy2xywh", [&](const Four& v) { return four(xywh_of(xyxy(v))); }) < 2e-5);
  CHECK(worst(file, "xyxy2xywh", "xywh2xyxy_of_xyxy2xywh", [&](const Four& v) { return four(xyxy_of(xywh(v))); }) < 2e-5);
  CHECK(worst(file, "xyxy", "xyxy2xywhn_w71_h53", [&](const Four& v) { return four(normalised_xywh_of(xyxy(v), 71, 53)); }) <
        5e-7);
  CHECK(worst(file, "xyxy", "xyxy2xywhn_w71_h53_clip_eps0.001",
              [&](const Four& v) { return four(normalised_xywh_of(clipped(xyxy(v), 71, 53, 0.001f), 71, 53)); }) < 5e-7);
  CHECK(worst(file, "xywhn", "xywhn2xyxy_w71_h53_pad3.5_7",
              [&](const Four& v) { return four(xyxy_of_normalised(xywh(v), 71, 53, 3.5f, 7)); }) < 4e-5);
  CHECK(worst(file, "xyxy", "clip_boxes_53x71", [&](const Four& v) { return four(clipped(xyxy(v), 71, 53)); }) < 1e-6);
  CHECK(worst(file, "xyxy", "scale_boxes_64x96_to_53x71",
              [&](const Four& v) { return four(to_native(xyxy(v), centred_fit(96, 64, 71, 53))); }) < 4e-5);
  const CanvasFit fit{.gain = 0.6f, .pad_x = 2.5f, .pad_y = 0, .width = 150, .height = 106};  // as the reference implies
  CHECK(worst(file, "xyxy", "scale_boxes_64x96_to_106x150_ratio_pad",
              [&](const Four& v) { return four(to_native(xyxy(v), fit)); }) < 4e-5);
}
