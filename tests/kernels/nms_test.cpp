#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <numeric>

#include "engine/base/rng.h"
#include "kernels/backend.h"
#include "tests/golden/golden.h"
#include "tests/kernels/device.h"

using namespace frost;

namespace {

// The rule as the page says it, step by step: the slow version of the fast one.
std::vector<Detection> plain_nms(const Nms& a) {
  struct Item {
    Detection d;
    float x1, y1, x2, y2;  // offset by class
  };
  std::vector<Item> items;
  for (std::int64_t r = 0; r < a.row_counts[0]; ++r) {
    const float* row = a.rows + r * (5 + a.classes);
    if (!(row[4] > a.conf_threshold)) continue;
    std::vector<float> scores;
    for (std::int64_t c = 0; c < a.classes; ++c) scores.push_back(row[5 + c] * row[4]);
    const auto first_best = std::max_element(scores.begin(), scores.end()) - scores.begin();
    for (int c = 0; c < a.classes; ++c) {
      const float score = scores[static_cast<std::size_t>(c)];
      if (!(score > a.conf_threshold) || (!a.multi_label && c != first_best)) continue;
      if (!a.keep_classes.empty() && std::count(a.keep_classes.begin(), a.keep_classes.end(), c) == 0) continue;
      const Detection d{row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2, score, c};
      const float o = a.agnostic ? 0.0f : static_cast<float>(c) * 7680.0f;
      items.push_back({d, d.x1 + o, d.y1 + o, d.x2 + o, d.y2 + o});
    }
  }
  std::stable_sort(items.begin(), items.end(), [](const Item& p, const Item& q) { return p.d.confidence > q.d.confidence; });
  if (static_cast<std::int64_t>(items.size()) > a.max_candidates) items.resize(static_cast<std::size_t>(a.max_candidates));
  std::vector<Detection> kept;
  std::vector<bool> dropped(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (dropped[i]) continue;
    kept.push_back(items[i].d);
    const Item& p = items[i];
    for (std::size_t j = i + 1; j < items.size(); ++j) {
      const Item& q = items[j];
      const float w = std::max(0.0f, std::min(p.x2, q.x2) - std::max(p.x1, q.x1));
      const float h = std::max(0.0f, std::min(p.y2, q.y2) - std::max(p.y1, q.y1));
      const float inter = w * h, areas = (p.x2 - p.x1) * (p.y2 - p.y1) + (q.x2 - q.x1) * (q.y2 - q.y1);
      if (static_cast<double>(inter / (areas - inter)) > a.iou_threshold) dropped[j] = true;
    }
  }
  if (static_cast<std::int64_t>(kept.size()) > a.max_detections) kept.resize(static_cast<std::size_t>(a.max_detections));
  return kept;
}

bool same(const std::vector<Detection>& a, const std::vector<Detection>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Detection& p, const Detection& q) {
    return p.x1 == q.x1 && p.y1 == q.y1 && p.x2 == q.x2 && p.y2 == q.y2 && p.confidence == q.confidence &&
           p.label == q.label;
  });
}

// Clustered boxes with few clear classes, scores in coarse steps so that equal ones occur.
std::vector<float> random_rows(std::int64_t count, std::int64_t classes, std::uint64_t seed, double scale = 640) {
  Rng rng(seed);
  std::vector<float> rows;
  for (std::int64_t r = 0; r < count; ++r) {
    const double cluster = static_cast<double>(r % 37) / 37;
    rows.push_back(static_cast<float>(scale * (cluster + 0.03 * rng.normal())));
    rows.push_back(static_cast<float>(scale * (0.5 + 0.03 * rng.normal())));
    rows.push_back(static_cast<float>(scale * rng.uniform(0.02, 0.2)));
    rows.push_back(static_cast<float>(scale * rng.uniform(0.02, 0.2)));
    rows.push_back(static_cast<float>(rng.below(100) + 1) / 100);
    for (std::int64_t c = 0; c < classes; ++c)
      rows.push_back(static_cast<float>((r + c) % 5 == 0 ? rng.uniform() : 0.02 * rng.uniform()));
  }
  return rows;
}

}  // namespace

TEST_CASE("nms: golden detections of all settings") {
  const auto file = golden::load("eval_nms");
  const auto rows = file.at("prediction").f32();
  const auto backend = frost::testing::make_test_backend();
  int settings = 0;
  for (const auto& [key, tensor] : file.tensors) {
    const auto dot = key.find(".image");
    if (dot == std::string::npos) continue;
    ++settings;
    CAPTURE(key);
    const auto fact = file.fact_json(key.substr(0, dot));
    const std::size_t image = key.back() == '1' ? 1 : 0;
    const auto kept = backend->nms({.rows = rows.data() + image * 800 * 10,
                                    .row_counts = {800},
                                    .classes = 5,
                                    .conf_threshold = fact["conf_thres"].get<float>(),
                                    .iou_threshold = fact["iou_thres"].get<double>(),
                                    .multi_label = fact.value("multi_label", false),
                                    .agnostic = fact.value("agnostic", false),
                                    .max_detections = fact.value("max_det", 300),
                                    .keep_classes = fact.value("classes", std::vector<int>{})})[0];
    const auto expected = tensor.f32();
    REQUIRE(kept.size() * 6 == expected.size());
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const float* e = &expected[i * 6];
      CHECK(kept[i].label == static_cast<int>(e[5]));
      // exact but for the last bit: the reference was computed in float32, too
      CHECK(kept[i].confidence == doctest::Approx(e[4]).epsilon(1e-6));
      CHECK(kept[i].x1 == doctest::Approx(e[0]).epsilon(1e-6));
      CHECK(kept[i].y1 == doctest::Approx(e[1]).epsilon(1e-6));
      CHECK(kept[i].x2 == doctest::Approx(e[2]).epsilon(1e-6));
      CHECK(kept[i].y2 == doctest::Approx(e[3]).epsilon(1e-6));
    }
  }
  CHECK(settings == 22);
}

TEST_CASE("nms: agrees bit for bit with the plain rule") {
  const auto backend = frost::testing::make_test_backend();
  for (const std::int64_t classes : {1, 3, 80})
    for (const bool multi_label : {false, true})
      for (const bool agnostic : {false, true})
        for (const double scale : {1.0, 640.0, 9000.0}) {  // 9000: boxes of different classes do meet
          CAPTURE(classes);
          CAPTURE(multi_label);
          CAPTURE(agnostic);
          CAPTURE(scale);
          const std::int64_t count = classes == 80 ? 150 : 700;
          const auto rows = random_rows(count, classes, 11, scale);
          Nms a{.rows = rows.data(),
                .row_counts = {count},
                .classes = classes,
                .conf_threshold = 0.01f,
                .iou_threshold = 0.6,
                .multi_label = multi_label && classes > 1,
                .agnostic = agnostic,
                .max_detections = 100000};
          const auto expected = plain_nms(a);
          CHECK(expected.size() > 30);
          CHECK(expected.size() < static_cast<std::size_t>(count * classes));
          CHECK(same(backend->nms(a)[0], expected));
          a.max_detections = 7, a.max_candidates = 200, a.keep_classes = {0, 2, 99};
          CHECK(same(backend->nms(a)[0], plain_nms(a)));
        }
}

TEST_CASE("nms: nothing in, nothing out; wrong thresholds are refused") {
  const auto backend = frost::testing::make_test_backend();
  CHECK(backend->nms({}).empty());
  CHECK(backend->nms({.rows = nullptr, .row_counts = {0}}).at(0).empty());
  const auto rows = random_rows(5, 80, 3);
  CHECK(backend->nms({.rows = rows.data(), .row_counts = {5}, .conf_threshold = 1}).at(0).empty());
  CHECK_THROWS_AS(backend->nms({.rows = rows.data(), .row_counts = {5}, .conf_threshold = 1.5f}), Error);
  CHECK_THROWS_AS(backend->nms({.rows = rows.data(), .row_counts = {5}, .iou_threshold = -0.1}), Error);
}

TEST_CASE("nms: images of a batch do not meet") {
  const auto backend = frost::testing::make_test_backend();
  const std::int64_t classes = 3, width = 5 + classes;
  const std::vector<std::int64_t> counts{40, 0, 1, 300, 0};
  const auto rows = random_rows(341, classes, 7);
  const auto of_batch = backend->nms({.rows = rows.data(), .row_counts = counts, .classes = classes, .multi_label = true});
  REQUIRE(of_batch.size() == counts.size());
  const float* first = rows.data();
  for (std::size_t i = 0; i < counts.size(); ++i) {
    CAPTURE(i);
    CHECK(same(of_batch[i], plain_nms({.rows = first, .row_counts = {counts[i]}, .classes = classes, .multi_label = true})));
    first += counts[i] * width;
  }
  CHECK(of_batch[3].size() > of_batch[0].size());
}

TEST_CASE("nms: an overlap equal to the threshold survives") {
  // two boxes of 10 x 10 that share 10 x 7.5: 75 / 125 = 0.6, which as float32 lies above the double 0.6, as upstream has it
  const std::vector<float> rows{5, 5, 10, 10, 0.9f, 1, 7.5f, 5, 10, 10, 0.8f, 1};
  const auto count = [&](double iou) {
    return frost::testing::make_test_backend()
        ->nms({.rows = rows.data(), .row_counts = {2}, .classes = 1, .iou_threshold = iou})[0]
        .size();
  };
  CHECK(count(0.6) == 1);
  CHECK(count(static_cast<double>(0.6f)) == 2);
  CHECK(count(0.59) == 1);
}

TEST_CASE("nms: speed at conf 0.001, multi-label" * doctest::test_suite("speed")) {
  const auto rows = random_rows(3000, 80, 5);
  const auto backend = frost::testing::make_test_backend();
  const Nms a{
      .rows = rows.data(), .row_counts = {3000}, .conf_threshold = 0.001f, .iou_threshold = 0.6, .multi_label = true};
  double best = 1e9;
  std::size_t kept = 0;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    kept = backend->nms(a)[0].size();
    best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::cout << "nms: " << best << " ms for 3000 rows of 80 classes (more than 100000 candidates), " << kept << " kept\n";
  CHECK(kept == 300);
}
