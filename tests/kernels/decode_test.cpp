#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <iostream>
#include <utility>

#include "engine/base/rng.h"
#include "kernels/backend.h"
#include "kernels/math/half.h"
#include "tests/kernels/device.h"
#include "tests/kernels/guarded.h"

using namespace frost;

namespace {

using frost::testing::by_image;
const auto backend = frost::testing::make_test_backend();

struct DecodeCase {
  std::int64_t images = 2, classes = 3;
  std::int64_t spare = 0;  // unused channels after each pixel: the head as a slice of a wider tensor
  DType dtype = DType::f32;
  std::vector<DetectLevel> levels{};
  std::vector<std::vector<float>> f32{};
  std::vector<std::vector<math::bf16>> bf16{};

  void add_level(std::int64_t rows, std::int64_t columns, float stride, std::vector<float> anchors, double obj_mean = 0) {
    const auto na = static_cast<std::int64_t>(anchors.size()) / 2, no = 5 + classes, pitch = na * no + spare;
    Rng rng(7 + levels.size());
    std::vector<float> values(static_cast<std::size_t>(images * rows * columns * pitch), 1e30f);  // spare channels: poison
    for (std::int64_t p = 0; p < images * rows * columns; ++p)
      for (std::int64_t k = 0; k < na * no; ++k)
        values[static_cast<std::size_t>(p * pitch + k)] =
            static_cast<float>(3 * rng.normal() + (k % no == 4 ? obj_mean : 0.0));
    f32.push_back(std::move(values));
    bf16.emplace_back();
    if (dtype == DType::bf16)
      for (float& x : f32.back()) {
        bf16.back().push_back(math::from_float<math::bf16>(x));
        x = math::to_float(bf16.back().back());
      }
    const void* data = dtype == DType::bf16 ? static_cast<const void*>(bf16.back().data()) : f32.back().data();
    levels.push_back({{data, {images, rows, columns, na * no}, dtype, pitch}, std::move(anchors), stride});
  }

  // docs/spec/val.md section 2, in double and in the obvious order
  std::vector<double> reference(std::int64_t image, double threshold) const {
    std::vector<double> out;
    const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
    for (std::size_t l = 0; l < levels.size(); ++l) {
      const Shape& s = levels[l].head.shape;
      const std::int64_t no = 5 + classes;
      for (std::int64_t a = 0; a < s.c / no; ++a)
        for (std::int64_t y = 0; y < s.h; ++y)
          for (std::int64_t x = 0; x < s.w; ++x) {
            const float* t =
                &f32[l][static_cast<std::size_t>(((image * s.h + y) * s.w + x) * levels[l].head.pitch + a * no)];
            if (!(sigmoid(t[4]) > threshold)) continue;
            const double stride = levels[l].stride;
            const float* anchor = &levels[l].anchors[static_cast<std::size_t>(2 * a)];
            out.push_back((2 * sigmoid(t[0]) - 0.5 + static_cast<double>(x)) * stride);
            out.push_back((2 * sigmoid(t[1]) - 0.5 + static_cast<double>(y)) * stride);
            out.push_back(std::pow(2 * sigmoid(t[2]), 2) * anchor[0] * stride);
            out.push_back(std::pow(2 * sigmoid(t[3]), 2) * anchor[1] * stride);
            for (std::int64_t k = 4; k < no; ++k) out.push_back(sigmoid(t[k]));
          }
    }
    return out;
  }
};

void check_rows(const std::vector<float>& rows, const std::vector<double>& expected, std::size_t attributes) {
  REQUIRE(rows.size() == expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double cancels = i % attributes < 2 ? 32 : 0;  // x, y: differences of numbers of the size of the stride
    worst = std::max(worst, std::abs(rows[i] - expected[i]) / std::max(cancels, std::abs(expected[i])));
  }
  CHECK(worst < 1e-6);  // a few float32 roundings
}

}  // namespace

TEST_CASE("decode: rows agree with the closed form, kept or not") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const std::int64_t spare : {0, 5})
      for (const float threshold : {-1.0f, 0.0f, 0.001f, 0.5f, 0.97f, 1.0f}) {
        CAPTURE(name_of(dtype));
        CAPTURE(threshold);
        DecodeCase t{.spare = spare, .dtype = dtype};
        t.add_level(7, 5, 8, {1.25f, 1.625f, 2, 3.75f, 4.125f, 2.875f});
        t.add_level(3, 4, 16, {1.875f, 3.8125f});
        t.add_level(1, 1, 32, {3.625f, 2.8125f, 11.65f, 10.1875f});
        const auto rows = by_image(backend->detect_decode({t.levels, t.classes, threshold}), t.classes);
        REQUIRE(rows.size() == 2);
        const auto reference = t.reference(1, threshold);
        if (threshold == 0.5f) CHECK(reference.size() > 0);
        check_rows(rows[0], t.reference(0, threshold), 8);
        check_rows(rows[1], reference, 8);
      }
}

TEST_CASE("decode: a head of the wrong width is refused") {
  DecodeCase t;
  t.add_level(2, 2, 8, {1, 2});
  CHECK_THROWS_AS(backend->detect_decode({t.levels, 4, 0.1f}), Error);
}

TEST_CASE("decode + nms: speed at 640x640, 80 classes, conf 0.001" * doctest::test_suite("speed")) {
  DecodeCase t{.images = 8, .classes = 80};
  const std::vector<float> anchors{1.25f, 1.625f, 2, 3.75f, 4.125f, 2.875f};
  // Objectness and class logits as a trained model has them: few cells survive, each with a few classes above the threshold.
  for (const auto& [side, stride] : {std::pair{80, 8.0f}, {40, 16.0f}, {20, 32.0f}})
    t.add_level(side, side, stride, anchors, -11);
  for (auto& level : t.f32)
    for (std::size_t i = 0; i < level.size(); ++i)
      if (i % 85 > 4) level[i] -= 5;
  DecodedRows rows;
  const auto best_of_five = [&](auto&& work) {
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      const auto start = std::chrono::steady_clock::now();
      work();
      best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    return best / static_cast<double>(t.images);
  };
  const double decode_ms = best_of_five([&] { rows = backend->detect_decode({t.levels, t.classes, 0.001f}); });
  std::size_t kept = 0, candidates = 0, survivors = 0;
  const double nms_ms = best_of_five([&] {
    kept = 0;
    for (const auto& image : backend->nms({.rows = rows.data(),
                             .row_counts = rows.counts,
                             .conf_threshold = 0.001f,
                             .iou_threshold = 0.6,
                             .multi_label = true}))
      kept += image.size();
  });
  for (const auto& r : by_image(rows, t.classes))
    for (std::size_t i = 0; i < r.size(); ++i) {
      survivors += i % 85 == 0;
      candidates += i % 85 > 4 && r[i] * r[i - i % 85 + 4] > 0.001f;
    }
  std::cout << "per image, all threads: decode " << decode_ms << " ms, nms " << nms_ms << " ms; " << survivors / 8
            << " rows, " << candidates / 8 << " candidates, " << kept / 8 << " kept\n";
  CHECK(kept > 0);
}
