#include "models/yolo/evaluation/metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace frost::yolo {
namespace {

constexpr double kTiny = 1e-16;

struct BestMatch {
  int index = -1;
  float iou = 0;
};

template <class Values>
double mean(const Values& values) {
  return values.empty() ? 0.0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// One class: its detections in descending confidence, to AP and curves.
void measure(ClassMetrics& c, const MatchRecord& record, std::span<const std::size_t> detections) {
  const std::size_t n = detections.size();
  std::vector<double> minus_confidence(n), recall(n), precision(n);
  for (std::size_t i = 0; i < n; ++i) minus_confidence[i] = -static_cast<double>(record.confidence[detections[i]]);
  for (std::size_t t = 0; t < kIouThresholds; ++t) {
    double hits = 0;
    for (std::size_t i = 0; i < n; ++i) {
      hits += record.correct[detections[i]][t] ? 1 : 0;
      recall[i] = hits / (static_cast<double>(c.instances) + kTiny);
      precision[i] = hits / static_cast<double>(i + 1);
    }
    c.ap[t] = average_precision(recall, precision);
    if (t != 0) continue;  // the curves are those at IoU 0.5
    for (std::size_t k = 0; k < kCurvePoints; ++k) {
      const double x = -static_cast<double>(k) * (1.0 / (kCurvePoints - 1));
      c.recall_curve[k] = interpolate(x, minus_confidence, recall, 0);
      c.precision_curve[k] = interpolate(x, minus_confidence, precision, 1);
    }
  }
}

}  // namespace

const std::array<float, kIouThresholds> kIouThreshold = {0.5f,  0.550000012f, 0.600000024f, 0.649999976f, 0.699999988f,
                                                         0.75f, 0.800000012f, 0.850000024f, 0.899999976f, 0.949999988f};

std::vector<Correct> match_detections(std::span<const Detection> detections, std::span<const LabelledBox> labels) {
  std::vector<Correct> correct(detections.size(), Correct{});
  std::vector<Correct> taken(labels.size(), Correct{});
  for (std::size_t d = 0; d < detections.size(); ++d) {
    BestMatch best;
    for (std::size_t l = 0; l < labels.size(); ++l) {
      if (labels[l].label != detections[d].label) continue;
      const float iou = metric_iou(labels[l].box, box_of(detections[d]));
      if (iou >= best.iou) best = {static_cast<int>(l), iou};
    }
    if (best.index < 0) continue;
    for (std::size_t t = 0; t < kIouThresholds; ++t) {
      bool& label_taken = taken[static_cast<std::size_t>(best.index)][t];
      if (best.iou >= kIouThreshold[t] && !label_taken) correct[d][t] = label_taken = true;
    }
  }
  return correct;
}

double interpolate(double x, std::span<const double> xs, std::span<const double> ys, double left) {
  const auto above = static_cast<std::size_t>(std::upper_bound(xs.begin(), xs.end(), x) - xs.begin());
  if (above == 0) return left;
  const std::size_t j = above - 1;
  if (above == xs.size() || xs[j] == x) return ys[j];
  return (ys[j + 1] - ys[j]) / (xs[j + 1] - xs[j]) * (x - xs[j]) + ys[j];
}

double average_precision(std::span<const double> recall, std::span<const double> precision) {
  std::vector<double> r{0.0}, p{1.0};
  r.insert(r.end(), recall.begin(), recall.end());
  p.insert(p.end(), precision.begin(), precision.end());
  r.push_back(1.0);
  p.push_back(0.0);
  for (std::size_t i = p.size() - 1; i-- > 0;) p[i] = std::max(p[i], p[i + 1]);
  double area = 0, x0 = 0, y0 = interpolate(0, r, p, 1);
  for (int k = 1; k <= 100; ++k) {
    const double x = k == 100 ? 1.0 : k * 0.01, y = interpolate(x, r, p, 1);
    area += (x - x0) * (y + y0) / 2;
    x0 = x, y0 = y;
  }
  return area;
}

std::vector<double> smooth(std::span<const double> y, double f) {
  const auto n = static_cast<std::int64_t>(y.size());
  const std::int64_t width = static_cast<std::int64_t>(std::nearbyint(static_cast<double>(n) * f * 2)) / 2 + 1;
  std::vector<double> out(y.size());
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::int64_t k = i - width / 2; k < i - width / 2 + width; ++k)
      sum += y[static_cast<std::size_t>(std::clamp<std::int64_t>(k, 0, n - 1))];
    out[static_cast<std::size_t>(i)] = sum / static_cast<double>(width);
  }
  return out;
}

double ClassMetrics::ap50_95() const { return mean(ap); }

ApPerClass ap_per_class(const MatchRecord& record) {
  std::vector<std::size_t> order(record.confidence.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return record.confidence[a] > record.confidence[b]; });
  std::map<int, std::int64_t> instances;
  for (const int label : record.target_class) ++instances[label];
  std::map<int, std::vector<std::size_t>> by_class;
  for (const std::size_t d : order) by_class[record.predicted_class[d]].push_back(d);

  ApPerClass result;
  std::vector<double> mean_f1(kCurvePoints, 0.0);
  for (const auto& [label, count] : instances) {
    ClassMetrics c;
    c.label = label;
    c.instances = count;
    c.precision_curve.assign(kCurvePoints, 0.0);
    c.recall_curve.assign(kCurvePoints, 0.0);
    c.f1_curve.assign(kCurvePoints, 0.0);
    if (by_class.contains(label)) measure(c, record, by_class[label]);
    for (std::size_t k = 0; k < kCurvePoints; ++k) {
      const double p = c.precision_curve[k], r = c.recall_curve[k];
      c.f1_curve[k] = 2 * p * r / (p + r + kTiny);
      mean_f1[k] += c.f1_curve[k] / static_cast<double>(instances.size());
    }
    result.classes.push_back(std::move(c));
  }
  if (result.classes.empty()) return result;

  const auto smoothed = smooth(mean_f1, 0.1);
  const auto best = static_cast<std::size_t>(std::max_element(smoothed.begin(), smoothed.end()) - smoothed.begin());
  result.best_confidence = static_cast<double>(best) / (kCurvePoints - 1);
  for (auto& c : result.classes) {
    c.precision = c.precision_curve[best], c.recall = c.recall_curve[best], c.f1 = c.f1_curve[best];
    const double hits = std::nearbyint(c.recall * static_cast<double>(c.instances));
    c.true_positives = static_cast<std::int64_t>(hits);
    c.false_positives = static_cast<std::int64_t>(std::nearbyint(hits / (c.precision + kTiny) - hits));
  }
  return result;
}

void ConfusionMatrix::add_image(std::span<const Detection> detections, std::span<const LabelledBox> labels) {
  if (labels.empty()) return;  // upstream's rule: false positives on empty images are not counted
  std::vector<BestMatch> best_detection(labels.size());
  for (std::size_t d = 0; d < detections.size(); ++d) {
    if (!(detections[d].confidence > 0.25f)) continue;
    BestMatch best;
    for (std::size_t l = 0; l < labels.size(); ++l) {
      const float iou = metric_iou(labels[l].box, box_of(detections[d]));
      if (iou > 0.45f && iou >= best.iou) best = {static_cast<int>(l), iou};
    }
    if (best.index < 0) continue;
    auto& claim = best_detection[static_cast<std::size_t>(best.index)];
    if (best.iou >= claim.iou) claim = {static_cast<int>(d), best.iou};
  }
  std::vector<bool> matched(detections.size(), false);
  bool any = false;
  for (std::size_t l = 0; l < labels.size(); ++l) {
    const int d = best_detection[l].index;
    count(d < 0 ? classes_ : detections[static_cast<std::size_t>(d)].label, labels[l].label);
    if (d >= 0) matched[static_cast<std::size_t>(d)] = any = true;
  }
  if (!any) return;  // upstream's rule again: without a single match the detections are not counted
  for (std::size_t d = 0; d < detections.size(); ++d)
    if (detections[d].confidence > 0.25f && !matched[d]) count(detections[d].label, classes_);
}

std::int64_t ConfusionMatrix::false_positives(int label) const {
  std::int64_t sum = 0;
  for (int truth = 0; truth <= classes_; ++truth) sum += truth == label ? 0 : at(label, truth);
  return sum;
}

void DetectionMetrics::add_image(std::span<const Detection> detections, std::span<const LabelledBox> labels) {
  ++images_;
  for (const auto& l : labels) {
    FROST_CHECK(l.label >= 0 && l.label < confusion_.classes(), "metrics: label of class ", l.label, ", the data has ",
                confusion_.classes(), " classes");
    record_.target_class.push_back(l.label);
  }
  for (const auto& d : detections)
    FROST_CHECK(d.label >= 0 && d.label < confusion_.classes(), "metrics: detection of class ", d.label, ", the data has ",
                confusion_.classes(), " classes");
  const auto correct = match_detections(detections, labels);
  record_.correct.insert(record_.correct.end(), correct.begin(), correct.end());
  for (const auto& d : detections) {
    record_.confidence.push_back(d.confidence);
    record_.predicted_class.push_back(d.label);
  }
  confusion_.add_image(detections, labels);
}

DetectionSummary DetectionMetrics::summary() const {
  DetectionSummary s;
  s.images = images_;
  s.instances = static_cast<std::int64_t>(record_.target_class.size());
  const bool any = std::any_of(record_.correct.begin(), record_.correct.end(),
                               [](const Correct& c) { return std::any_of(c.begin(), c.end(), [](bool b) { return b; }); });
  if (!any) return s;
  auto result = ap_per_class(record_);
  const auto n = static_cast<double>(result.classes.size());
  for (const auto& c : result.classes) {
    s.precision += c.precision / n;
    s.recall += c.recall / n;
    s.map50 += c.ap50() / n;
    s.map50_95 += c.ap50_95() / n;
  }
  s.best_confidence = result.best_confidence;
  s.classes = std::move(result.classes);
  return s;
}

std::vector<double> DetectionSummary::class_maps(int count) const {
  std::vector<double> maps(static_cast<std::size_t>(count), map50_95);
  for (const auto& c : classes)
    if (c.label < count) maps[static_cast<std::size_t>(c.label)] = c.ap50_95();
  return maps;
}

}  // namespace frost::yolo
