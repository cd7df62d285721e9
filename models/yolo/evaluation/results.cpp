#include "models/yolo/evaluation/results.h"

#include "engine/base/atomic_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace frost::yolo {
namespace {

void write_text(const std::filesystem::path& file, const std::string& text, std::ios::openmode mode) {
  std::ofstream out(file, std::ios::binary | mode);
  out << text;
  out.close();
  FROST_CHECK(out, file.string(), ": cannot write: ", std::strerror(errno));
}

}  // namespace

std::string metrics_header() {
  return fmt::format("{:>22}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}", "Class", "Images", "Instances", "P", "R", "mAP50",
                     "mAP50-95");
}

std::string metrics_row(const std::string& name, std::int64_t images, std::int64_t instances, double precision,
                        double recall, double map50, double map50_95) {
  return fmt::format("{:>22}{:>11}{:>11}{:>11.3g}{:>11.3g}{:>11.3g}{:>11.3g}", name, images, instances, precision, recall,
                     map50, map50_95);
}

std::string metrics_table(const DetectionSummary& s, const std::vector<std::string>& names, bool per_class) {
  std::string text = metrics_row("all", s.images, s.instances, s.precision, s.recall, s.map50, s.map50_95) + "\n";
  if (!per_class) return text;
  for (const auto& c : s.classes) {
    const auto label = static_cast<std::size_t>(c.label);
    const std::string name = label < names.size() ? names[label] : std::to_string(c.label);
    text += metrics_row(name, s.images, c.instances, c.precision, c.recall, c.ap50(), c.ap50_95()) + "\n";
  }
  return text;
}

std::string speed_line(double pre_process_ms, double inference_ms, double nms_ms, int batch, int side) {
  return fmt::format("Speed: {:.1f}ms pre-process, {:.1f}ms inference, {:.1f}ms NMS per image at shape ({}, 3, {}, {})",
                     pre_process_ms, inference_ms, nms_ms, batch, side, side);
}

std::string label_line(const Detection& d, int width, int height, bool with_confidence) {
  const BoxXywh b = normalised_xywh_of(box_of(d), static_cast<float>(width), static_cast<float>(height));
  std::string line = fmt::format("{} {:g} {:g} {:g} {:g}", d.label, b.x, b.y, b.w, b.h);
  if (with_confidence) line += fmt::format(" {:g}", d.confidence);
  return line;
}

void append_label_file(const std::filesystem::path& file, std::span<const Detection> native, int width, int height,
                       bool with_confidence) {
  if (native.empty()) return;
  std::string text;
  for (const auto& d : native) text += label_line(d, width, height, with_confidence) + "\n";
  write_text(file, text, std::ios::app);
}

int coco_category(int label) {
  FROST_CHECK(label >= 0 && label < 80, "COCO has classes 0 to 79, not ", label);
  int category = label + 1;  // each id that COCO left out shifts the rest by one
  for (const int gap : {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
    if (category >= gap) ++category;
  return category;
}

std::string rounded_number(double value, int digits) {
  // The C library rounds the exact binary value, ties to even: the same decimal that Python's round() finds. What remains
  // is Python's way of writing it: shortest, with at least one decimal, and an exponent below 1e-4.
  std::string text = fmt::format("{:.{}f}", value, digits);
  if (const double rounded = std::abs(std::stod(text)); rounded > 0 && rounded < 1e-4)
    return fmt::format("{:.0e}", std::stod(text));
  if (text.find('.') == std::string::npos) return text;  // nan, inf
  text.erase(std::min(text.find_last_not_of('0') + 1, text.size()));
  return text.back() == '.' ? text + "0" : text;
}

void CocoPredictions::add_image(const std::string& stem, std::span<const Detection> native) {
  const bool number = !stem.empty() && stem.find_first_not_of("0123456789") == std::string::npos;
  const auto first = std::min(stem.find_first_not_of('0'), stem.empty() ? std::size_t{0} : stem.size() - 1);
  const std::string id =
      number ? stem.substr(first) : nlohmann::json(stem).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  for (const auto& d : native) {
    const BoxXywh b = xywh_of(box_of(d));
    if (!entries_.empty()) entries_ += ", ";
    entries_ += fmt::format(R"({{"image_id": {}, "category_id": {}, "bbox": [{}, {}, {}, {}], "score": {}}})", id,
                            coco_ids_ ? coco_category(d.label) : d.label, rounded_number(b.x - b.w / 2, 3),
                            rounded_number(b.y - b.h / 2, 3), rounded_number(b.w, 3), rounded_number(b.h, 3),
                            rounded_number(d.confidence, 5));
  }
}

void CocoPredictions::write(const std::filesystem::path& file) const {
  const std::string text = json();
  write_file_atomically(file, std::as_bytes(std::span(text)));
}

}  // namespace frost::yolo
