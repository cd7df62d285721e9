#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kernels/detect.h"
#include "models/yolo/boxes.h"
#include "models/yolo/evaluation/metrics.h"

/// What a validation or detection run prints and writes (docs/spec/val.md sections 6 and 7), byte for byte as YOLOv5 does.
namespace frost::yolo {

/// `Class Images Instances P R mAP50 mAP50-95`: one column 22 wide, six of 11.
std::string metrics_header();
std::string metrics_row(const std::string& name, std::int64_t images, std::int64_t instances, double precision,
                        double recall, double map50, double map50_95);
/// The row `all`, then, if `per_class`, one row for each class with labels. Lines end with a newline.
std::string metrics_table(const DetectionSummary& summary, const std::vector<std::string>& names, bool per_class);
/// `Speed: 0.3ms pre-process, ...`: milliseconds for one image, and the batch's shape (batch, 3, side, side).
std::string speed_line(double pre_process_ms, double inference_ms, double nms_ms, int batch, int side);

/// One line of a label file: `class xc yc w h [confidence]`, fractions of the native image, %g. No newline.
std::string label_line(const Detection& native, int width, int height, bool with_confidence);
/// Appends lines for all detections to `file`; writes nothing where there are none.
void append_label_file(const std::filesystem::path& file, std::span<const Detection> native, int width, int height,
                       bool with_confidence);

/// The id that COCO's own files use for class 0..79: 1..90 with gaps.
int coco_category(int label);

/// Collects detections for `<weights>_predictions.json`, the form that COCO's evaluation reads.
class CocoPredictions {
 public:
  /// `coco_ids`: map classes 0..79 to COCO's category ids; otherwise the class itself is the category.
  explicit CocoPredictions(bool coco_ids) : coco_ids_(coco_ids) {}
  /// `stem`: the image's file name without folder and suffix; all digits: it becomes a number.
  void add_image(const std::string& stem, std::span<const Detection> native);
  std::string json() const { return "[" + entries_ + "]"; }
  void write(const std::filesystem::path& file) const;

 private:
  bool coco_ids_;
  std::string entries_;
};

/// A number as Python prints round(value, digits); digits <= 5. Exact ties go to the even digit.
std::string rounded_number(double value, int digits);

}  // namespace frost::yolo
