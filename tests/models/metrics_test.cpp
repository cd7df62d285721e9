#include "models/yolo/evaluation/metrics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/golden/golden.h"

using namespace frost;
using namespace frost::yolo;

namespace {

std::vector<Detection> detections_of(const golden::Tensor& t) {
  const auto v = t.f32();
  std::vector<Detection> out;
  for (std::size_t i = 0; i + 6 <= v.size(); i += 6)
    out.push_back({v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4], static_cast<int>(v[i + 5])});
  return out;
}
std::vector<LabelledBox> labels_of(const golden::Tensor& t) {
  const auto v = t.f32();
  std::vector<LabelledBox> out;
  for (std::size_t i = 0; i + 5 <= v.size(); i += 5)
    out.push_back({{v[i + 1], v[i + 2], v[i + 3], v[i + 4]}, static_cast<int>(v[i])});
  return out;
}
std::vector<float> flat(const ConfusionMatrix& m) {
  std::vector<float> out;
  for (int p = 0; p <= m.classes(); ++p)
    for (int t = 0; t <= m.classes(); ++t) out.push_back(static_cast<float>(m.at(p, t)));
  return out;
}
int count(const Correct& c) { return static_cast<int>(std::count(c.begin(), c.end(), true)); }

}  // namespace

TEST_CASE("metrics: thresholds are float32's linspace") {
  for (int i = 0; i < kIouThresholds; ++i)
    CHECK(kIouThreshold[static_cast<std::size_t>(i)] == doctest::Approx(0.5 + 0.05 * i).epsilon(1e-7));
  CHECK(kIouThreshold[1] == 0x1.19999ap-1f);  // 0.550000012
  CHECK(kIouThreshold[3] == 0x1.4cccccp-1f);  // 0.649999976
}

TEST_CASE("metrics: golden overlaps, matches and confusion matrix") {
  const auto file = golden::load("eval_matching");
  ConfusionMatrix confusion(5);
  for (int image = 0; image < 4; ++image) {
    CAPTURE(image);
    const std::string key = "image" + std::to_string(image) + ".";
    const auto detections = detections_of(file.at(key + "detections"));
    const auto labels = labels_of(file.at(key + "labels"));
    const auto iou = file.at(key + "iou").f32();
    double worst = 0;
    for (std::size_t l = 0; l < labels.size(); ++l)
      for (std::size_t d = 0; d < detections.size(); ++d)
        worst = std::max(worst, std::abs(static_cast<double>(metric_iou(labels[l].box, box_of(detections[d]))) -
                                         iou[l * detections.size() + d]));
    CHECK(worst < 1e-6);

    const auto correct = match_detections(detections, labels);
    const auto expected = file.at(key + "correct").values<std::uint8_t>();
    REQUIRE(correct.size() * kIouThresholds == expected.size());
    int wrong = 0;
    for (std::size_t i = 0; i < expected.size(); ++i)
      wrong += correct[i / kIouThresholds][i % kIouThresholds] != (expected[i] != 0);
    CHECK(wrong == 0);

    confusion.add_image(detections_of(file.at(key + "confusion_detections")), labels);
    CHECK(flat(confusion) == file.at(key + "confusion_after").f32());
  }
  const std::vector<LabelledBox> missed{{{0, 0, 9, 9}, 0}, {{1, 1, 5, 5}, 2}, {{2, 2, 8, 8}, 2}};
  confusion.add_image({}, missed);
  CHECK(flat(confusion) == file.at("confusion_matrix").f32());
  const auto tp = file.at("confusion_tp").f32(), fp = file.at("confusion_fp").f32();
  for (int c = 0; c < 5; ++c) {
    CHECK(static_cast<float>(confusion.true_positives(c)) == tp[static_cast<std::size_t>(c)]);
    CHECK(static_cast<float>(confusion.false_positives(c)) == fp[static_cast<std::size_t>(c)]);
  }
}

TEST_CASE("metrics: the page's worked example of matching") {
  const std::vector<LabelledBox> labels{{{0, 0, 10, 9}, 0}, {{20, 20, 30, 30}, 1}, {{22, 22, 32, 32}, 1}};
  const std::vector<Detection> detections{
      {0, 0, 10, 10, 0.9f, 0}, {0, 0, 10, 9, 0.8f, 0}, {20, 20, 30, 30, 0.7f, 1}, {21, 21, 31, 31, 0.6f, 1}};
  const auto correct = match_detections(detections, labels);
  CHECK(count(correct[0]) == 9);
  CHECK(correct[0][8]);
  CHECK(count(correct[1]) == 1);
  CHECK(correct[1][9]);
  CHECK(count(correct[2]) == 10);
  CHECK(count(correct[3]) == 4);
  CHECK(correct[3][3]);
}

TEST_CASE("metrics: a class counts in matching but not in the confusion matrix; ties go to the later") {
  const std::vector<LabelledBox> labels{{{0, 0, 10, 10}, 0}, {{0, 0, 10, 10}, 1}};
  const std::vector<Detection> detections{{0, 0, 10, 10, 0.9f, 2}, {50, 50, 60, 60, 0.8f, 0}, {0, 0, 10, 10, 0.2f, 1}};
  const auto correct = match_detections(detections, labels);
  CHECK(count(correct[0]) == 0);
  CHECK(count(correct[2]) == 10);
  ConfusionMatrix m(3);
  m.add_image(detections, labels);
  CHECK(m.at(2, 1) == 1);  // the later label takes the detection of another class
  CHECK(m.at(3, 0) == 1);  // the earlier one is missed; the detection below 0.25 does not exist
  CHECK(m.at(0, 3) == 1);
  CHECK(m.at(1, 1) == 0);
  m.add_image(detections, {});                                             // nothing is counted on an image without labels
  m.add_image(std::vector<Detection>{{50, 50, 60, 60, 0.8f, 0}}, labels);  // no match at all: only the misses
  CHECK(m.at(0, 3) == 1);
  CHECK(m.at(3, 0) == 2);
  CHECK(m.at(3, 1) == 1);
}

TEST_CASE("metrics: average precision, the page's checks") {
  const auto ap = [](std::vector<double> r, std::vector<double> p) { return average_precision(r, p); };
  CHECK(ap({1}, {1}) == doctest::Approx(0.995).epsilon(1e-12));
  CHECK(ap({0.5}, {1}) == doctest::Approx(0.75).epsilon(1e-12));
  CHECK(ap({0.5, 0.5, 1}, {1, 0.5, 0.666}) == doctest::Approx(0.828).epsilon(1e-3));
}

TEST_CASE("metrics: smoothing repeats the ends") {
  const std::vector<double> y{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  const auto s = smooth(y, 0.1);  // rne(10 * 0.2) / 2 + 1 = 2 taps: one before, and the point itself
  CHECK(s[0] == 1);
  CHECK(s[1] == 1.5);
  CHECK(s[9] == 9.5);
  const auto three = smooth(y, 0.2);
  CHECK(three[0] == doctest::Approx(4.0 / 3));
  CHECK(three[9] == doctest::Approx(29.0 / 3));
}

TEST_CASE("metrics: ap_per_class, the page's worked example") {
  MatchRecord record;
  const int tp[6][2] = {{1, 1}, {0, 0}, {1, 0}, {1, 1}, {0, 0}, {1, 0}};
  for (const auto& row : tp) {
    Correct c{};
    c[0] = row[0] == 1, c[1] = row[1] == 1;
    record.correct.push_back(c);
  }
  record.confidence = {0.9f, 0.8f, 0.7f, 0.6f, 0.5f, 0.4f};
  record.predicted_class = {0, 0, 0, 1, 1, 0};
  record.target_class = {0, 0, 0, 0, 1, 1, 2};
  const auto result = ap_per_class(record);
  REQUIRE(result.classes.size() == 3);
  const double expected[3][7] = {{0.7175, 0.34, 0.708458458, 0.625375373, 0.664329337, 3, 1},
                                 {0.6225, 0.6225, 0.747747689, 0.5, 0.599277959, 1, 0},
                                 {0, 0, 0, 0, 0, 0, 0}};
  for (int i = 0; i < 3; ++i) {
    const auto& c = result.classes[static_cast<std::size_t>(i)];
    const double* e = expected[i];
    CAPTURE(i);
    CHECK(c.label == i);
    CHECK(c.ap[0] == doctest::Approx(e[0]).epsilon(1e-9));
    CHECK(c.ap[1] == doctest::Approx(e[1]).epsilon(1e-9));
    CHECK(c.precision == doctest::Approx(e[2]).epsilon(1e-8));  // the page prints nine digits
    CHECK(c.recall == doctest::Approx(e[3]).epsilon(1e-8));
    CHECK(c.f1 == doctest::Approx(e[4]).epsilon(1e-8));
    CHECK(c.true_positives == e[5]);
    CHECK(c.false_positives == e[6]);
  }
}

TEST_CASE("metrics: golden ap_per_class") {
  const auto file = golden::load("eval_ap");
  for (const std::string name : {"matched", "synthetic", "one_detection"}) {
    CAPTURE(name);
    MatchRecord record;
    record.confidence = file.at(name + ".conf").f32();
    record.predicted_class = file.at(name + ".predicted_class").values<int>();
    record.target_class = file.at(name + ".target_class").values<int>();
    const auto tp = file.at(name + ".tp").values<std::uint8_t>();
    for (std::size_t i = 0; i < record.confidence.size(); ++i) {
      Correct c{};
      for (std::size_t t = 0; t < kIouThresholds; ++t) c[t] = tp[i * kIouThresholds + t] != 0;
      record.correct.push_back(c);
    }
    const auto result = ap_per_class(record);
    const auto classes = file.at(name + ".out.classes").values<int>();
    REQUIRE(result.classes.size() == classes.size());
    const auto out = [&](const std::string& column) { return file.at(name + ".out." + column).f32(); };
    const auto ap = out("ap"), p = out("precision"), r = out("recall"), f1 = out("f1");
    const auto hits = out("true_positives"), misses = out("false_positives");
    double mean[4] = {};
    for (std::size_t i = 0; i < classes.size(); ++i) {
      const auto& c = result.classes[i];
      CHECK(c.label == classes[i]);
      for (std::size_t t = 0; t < kIouThresholds; ++t)
        CHECK(c.ap[t] == doctest::Approx(ap[i * kIouThresholds + t]).epsilon(1e-6));
      CHECK(c.precision == doctest::Approx(p[i]).epsilon(1e-6));
      CHECK(c.recall == doctest::Approx(r[i]).epsilon(1e-6));
      CHECK(c.f1 == doctest::Approx(f1[i]).epsilon(1e-6));
      CHECK(c.true_positives == hits[i]);
      CHECK(c.false_positives == misses[i]);
      const double n = static_cast<double>(classes.size());
      mean[0] += c.precision / n, mean[1] += c.recall / n, mean[2] += c.ap50() / n, mean[3] += c.ap50_95() / n;
    }
    const auto expected = file.fact_json(name + ".means_P_R_mAP50_mAP").get<std::vector<double>>();
    for (std::size_t k = 0; k < 4; ++k) CHECK(mean[k] == doctest::Approx(expected[k]).epsilon(1e-10));
  }
}

TEST_CASE("metrics: a run's summary") {
  DetectionMetrics metrics(3);
  CHECK(metrics.summary().map50 == 0);
  metrics.add_image({}, std::vector<LabelledBox>{{{0, 0, 10, 10}, 2}});
  metrics.add_image({}, {});
  auto s = metrics.summary();
  CHECK(s.images == 2);
  CHECK(s.instances == 1);
  CHECK(s.classes.empty());  // nothing was right: no rows
  CHECK(s.fitness() == 0);
  metrics.add_image(std::vector<Detection>{{0, 0, 10, 10, 0.9f, 1}}, std::vector<LabelledBox>{{{0, 0, 10, 10}, 1}});
  s = metrics.summary();
  REQUIRE(s.classes.size() == 2);
  CHECK(s.map50 == doctest::Approx(0.995 / 2));
  CHECK(s.map50_95 == doctest::Approx(0.995 / 2));
  CHECK(s.fitness() == doctest::Approx(0.995 / 2));
  const auto maps = s.class_maps(3);
  CHECK(maps[0] == doctest::Approx(0.995 / 2));  // no labels: the mean
  CHECK(maps[1] == doctest::Approx(0.995));
  CHECK(maps[2] == 0);
  CHECK_THROWS_AS(metrics.add_image({}, std::vector<LabelledBox>{{{0, 0, 10, 10}, 3}}), Error);
}
