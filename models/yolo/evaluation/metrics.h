#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/detect.h"
#include "models/yolo/boxes.h"

/// Detection metrics of docs/spec/val.md sections 4.2 and 5. All boxes are xyxy in pixels of the native image.
namespace frost::yolo {

struct LabelledBox {
  BoxXyxy box;
  int label;
};
inline BoxXyxy box_of(const Detection& d) { return {d.x1, d.y1, d.x2, d.y2}; }

constexpr int kIouThresholds = 10;
/// float32 linspace(0.5, 0.95, 10).
extern const std::array<float, kIouThresholds> kIouThreshold;

/// Is a detection a true positive, at each of the thresholds?
using Correct = std::array<bool, kIouThresholds>;

/// One row for each detection (best first). A detection is matched with its best label of the same class. Of several
/// detections matched with one label, the first counts. Equal overlaps: the later label.
std::vector<Correct> match_detections(std::span<const Detection> detections, std::span<const LabelledBox> labels);

/// Area under a precision-recall curve: envelope, 101-point linear interpolation, trapezoid. At most 0.995.
double average_precision(std::span<const double> recall, std::span<const double> precision);

/// numpy.interp: of equal abscissae the last point counts; `left` below the first, the last value above the last.
double interpolate(double x, std::span<const double> xs, std::span<const double> ys, double left);

/// Box filter over the fraction `f` of the points, ends repeated.
std::vector<double> smooth(std::span<const double> y, double f);

/// What a run has recorded, ready for ap_per_class.
struct MatchRecord {
  std::vector<Correct> correct;  // one for each detection, in order of arrival
  std::vector<float> confidence;
  std::vector<int> predicted_class;
  std::vector<int> target_class;  // one for each label
};

constexpr int kCurvePoints = 1000;
/// One class with labels.
struct ClassMetrics {
  int label = 0;
  std::int64_t instances = 0;
  std::array<double, kIouThresholds> ap{};   // at each threshold
  double precision = 0, recall = 0, f1 = 0;  // at the confidence that is best for the mean F1
  std::int64_t true_positives = 0, false_positives = 0;
  std::vector<double> precision_curve, recall_curve, f1_curve;  // over confidence k / 999
  double ap50() const { return ap[0]; }
  double ap50_95() const;
};
struct ApPerClass {
  std::vector<ClassMetrics> classes;  // ascending label
  double best_confidence = 0;
};
/// Equal confidences keep their order of arrival.
ApPerClass ap_per_class(const MatchRecord& record);

/// Counts of (predicted, true) classes; the last row (column) is the background. Detections above 0.25, overlap above 0.45.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(int classes)
      : classes_(classes), counts_(static_cast<std::size_t>((classes + 1) * (classes + 1))) {}
  void add_image(std::span<const Detection> detections, std::span<const LabelledBox> labels);
  int classes() const { return classes_; }
  std::int64_t at(int predicted, int truth) const {
    return counts_[static_cast<std::size_t>(predicted * (classes_ + 1) + truth)];
  }
  std::int64_t true_positives(int label) const { return at(label, label); }
  std::int64_t false_positives(int label) const;

 private:
  void count(int predicted, int truth) { ++counts_[static_cast<std::size_t>(predicted * (classes_ + 1) + truth)]; }
  int classes_;
  std::vector<std::int64_t> counts_;
};

/// The four numbers of a run, and the results of each class.
struct DetectionSummary {
  std::int64_t images = 0, instances = 0;
  double precision = 0, recall = 0, map50 = 0, map50_95 = 0;
  double best_confidence = 0;
  std::vector<ClassMetrics> classes;  // with labels, ascending; empty if no detection was correct
  double fitness() const { return 0.1 * map50 + 0.9 * map50_95; }
  /// AP50-95 of each of `count` classes; those without labels get the mean (weights for image sampling).
  std::vector<double> class_maps(int count) const;
};

/// Collects the results of images, then summarises.
class DetectionMetrics {
 public:
  explicit DetectionMetrics(int classes) : confusion_(classes) {}
  /// Detections best first. An image without labels and detections still counts as seen.
  void add_image(std::span<const Detection> detections, std::span<const LabelledBox> labels);
  DetectionSummary summary() const;
  const ConfusionMatrix& confusion() const { return confusion_; }
  const MatchRecord& record() const { return record_; }

 private:
  std::int64_t images_ = 0;
  MatchRecord record_;
  ConfusionMatrix confusion_;
};

}  // namespace frost::yolo
