#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/golden/golden.h"
#include "tests/kernels/emulated_backend.h"
#include "tests/kernels/guarded.h"

// Decode and NMS of CUDA, emulated on the host, against the CPU's (decode_test.cpp, nms_test.cpp).

using namespace frost;
using frost::testing::by_image;
using frost::testing::Guarded;
using frost::testing::HostAccess;
using frost::testing::make_emulated_backend;
using frost::testing::randoms;

namespace {

const auto cpu = make_cpu_backend(), cuda_forwards = make_emulated_backend(false, HostAccess::open),
           cuda_backwards = make_emulated_backend(true, HostAccess::open);

std::vector<float> boxes(std::int64_t count, std::int64_t classes, unsigned seed, float scale) {
  const auto noise = randoms(count * (5 + classes), seed);
  std::vector<float> rows;
  std::size_t at = 0;
  const auto unit = [&] { return 1 / (1 + std::exp(-noise[at++])); };
  for (std::int64_t r = 0; r < count; ++r) {
    rows.push_back(scale * (static_cast<float>(r % 37) / 37 + 0.03f * noise[at++]));
    rows.push_back(scale * (0.5f + 0.03f * noise[at++]));
    for (int side = 0; side < 2; ++side) rows.push_back(scale * (0.02f + 0.2f * unit()));
    rows.push_back(std::round(unit() * 50) / 50);  // in coarse steps: equal confidences occur
    for (std::int64_t c = 0; c < classes; ++c) rows.push_back((r + c) % 5 == 0 ? std::round(unit() * 20) / 20 : 0.02f);
  }
  return rows;
}

bool same(const std::vector<Detection>& a, const std::vector<Detection>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Detection& p, const Detection& q) {
    return p.x1 == q.x1 && p.y1 == q.y1 && p.x2 == q.x2 && p.y2 == q.y2 && p.confidence == q.confidence &&
           p.label == q.label;
  });
}

}  // namespace

TEST_CASE("cuda nms: the CPU's detections bit for bit") {
  for (const std::int64_t classes : {1, 3, 80})
    for (const bool multi_label : {false, true})
      for (const bool agnostic : {false, true})
        for (const float scale : {1.0f, 640.0f, 9000.0f}) {  // 9000: boxes of different classes do meet
          CAPTURE(classes);
          CAPTURE(multi_label);
          CAPTURE(agnostic);
          CAPTURE(scale);
          const std::int64_t count = classes == 80 ? 150 : 1500;  // several rounds of 1024 candidates
          const auto rows = boxes(count, classes, 3, scale);
          Nms a{.rows = rows.data(),
                .row_counts = {count},
                .classes = classes,
                .conf_threshold = 0.01f,
                .iou_threshold = 0.6,
                .multi_label = multi_label,
                .agnostic = agnostic};
          const auto want = cpu->nms(a)[0];
          CHECK(want.size() > 20);
          CHECK(same(cuda_forwards->nms(a)[0], want));
          CHECK(same(cuda_backwards->nms(a)[0], want));
          a.max_detections = 7, a.max_candidates = 1100;
          CHECK(same(cuda_forwards->nms(a)[0], cpu->nms(a)[0]));
          a.max_detections = 300, a.max_candidates = 60, a.keep_classes = {0, 2, 99};
          CHECK(same(cuda_forwards->nms(a)[0], cpu->nms(a)[0]));
        }
  CHECK(cuda_forwards->nms({}).empty());
  const auto rows = boxes(10, 2, 1, 640);
  CHECK(cuda_forwards->nms({.rows = rows.data(), .row_counts = {10}, .classes = 2, .conf_threshold = 1})[0].empty());
  CHECK_THROWS_AS(cuda_forwards->nms({.rows = rows.data(), .row_counts = {10}, .classes = 2, .iou_threshold = 2}), Error);
}

TEST_CASE("cuda decode: the CPU's rows in the CPU's order") {
  for (const std::int64_t classes : {1, 3})
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const float threshold : {-1.0f, 0.0f, 0.3f, 0.9f, 1.0f}) {
        CAPTURE(name_of(dtype));
        CAPTURE(threshold);
        const std::int64_t attributes = 5 + classes;
        std::vector<Guarded> heads;
        std::vector<DetectLevel> levels;
        const Shape shapes[] = {{3, 17, 13, 3 * attributes}, {3, 8, 6, attributes}, {3, 1, 1, 2 * attributes}};
        const std::vector<float> anchors[] = {{1.25f, 1.625f, 2, 3.75f, 4.125f, 2.875f}, {1.875f, 3.8125f}, {3, 2, 11, 10}};
        for (std::size_t i = 0; i < 3; ++i)
          heads.emplace_back(shapes[i], randoms(shapes[i].elements(), static_cast<unsigned>(i), 0, 3), dtype, 0,
                             static_cast<std::int64_t>(3 * i));
        for (std::size_t i = 0; i < 3; ++i) levels.push_back({heads[i].view(), anchors[i], static_cast<float>(8 << i)});
        const DetectDecode decode{levels, classes, threshold};
        const auto want = by_image(cpu->detect_decode(decode), classes);
        const auto got = by_image(cuda_forwards->detect_decode(decode), classes);
        CHECK(by_image(cuda_backwards->detect_decode(decode), classes) == got);
        REQUIRE(got.size() == want.size());
        for (std::size_t image = 0; image < want.size(); ++image) {
          REQUIRE(got[image].size() == want[image].size());
          double worst = 0;  // the CPU's vector code fuses multiplications with additions
          for (std::size_t i = 0; i < want[image].size(); ++i) {
            const double scale = std::max(1.0, std::abs(static_cast<double>(want[image][i])));
            worst =
                std::max(worst, std::abs(static_cast<double>(got[image][i]) - static_cast<double>(want[image][i])) / scale);
          }
          CHECK(worst < 1e-6);
        }
      }
}
