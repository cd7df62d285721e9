#include "models/yolo/training/hyp.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "engine/base/atomic_file.h"
#include "engine/base/input_file.h"
#include "engine/base/yaml_file.h"
#include "kernels/error.h"
#include "models/graph/builtin_files.h"

namespace frost::yolo {
namespace {

constexpr double kNoEnd = std::numeric_limits<double>::infinity();

/// Where a value makes sense: the widest reading of what it does, and wider than what YOLOv5 evolves it in.
struct Range {
  double low, high = kNoEnd;
  bool above_low = false, below_high = false;  // the ends themselves are outside

  bool holds(double value) const {
    return (above_low ? value > low : value >= low) && (below_high ? value < high : value <= high);
  }
  std::string text() const {
    const std::string from = fmt::format("{} {}", above_low ? "more than" : "at least", low);
    if (std::isinf(high)) return from;
    return below_high ? fmt::format("{} and less than {}", from, high) : fmt::format("from {} to {}", low, high);
  }
};
constexpr Range kPositive{0, kNoEnd, true}, kNotNegative{0}, kShare{0, 1}, kBelowOne{0, 1, false, true};
constexpr Range kMoreThanOne{1, kNoEnd, true};  // anchor_t: two sides' ratio, the larger one above, is never below 1

struct Key {
  std::string_view name;
  double Hyp::*value;
  Range range;
  bool required = true;
};
constexpr std::array kKeys = {
    Key{"lr0", &Hyp::lr0, kPositive},
    Key{"lrf", &Hyp::lrf, kNotNegative},
    Key{"momentum", &Hyp::momentum, kBelowOne},
    Key{"weight_decay", &Hyp::weight_decay, kNotNegative},
    Key{"warmup_epochs", &Hyp::warmup_epochs, kNotNegative},
    Key{"warmup_momentum", &Hyp::warmup_momentum, kBelowOne},
    Key{"warmup_bias_lr", &Hyp::warmup_bias_lr, kNotNegative},
    Key{"box", &Hyp::box, kNotNegative},
    Key{"cls", &Hyp::cls, kNotNegative},
    Key{"cls_pw", &Hyp::cls_pw, kNotNegative},
    Key{"obj", &Hyp::obj, kNotNegative},
    Key{"obj_pw", &Hyp::obj_pw, kNotNegative},
    Key{"iou_t", &Hyp::iou_t, kShare},
    Key{"anchor_t", &Hyp::anchor_t, kMoreThanOne},
    Key{"anchors", &Hyp::anchors, Range{0, 100}, false},
    Key{"fl_gamma", &Hyp::fl_gamma, Range{0, 10}},
    Key{"hsv_h", &Hyp::hsv_h, kShare},
    Key{"hsv_s", &Hyp::hsv_s, kShare},
    Key{"hsv_v", &Hyp::hsv_v, kShare},
    Key{"degrees", &Hyp::degrees, Range{-180, 180}},
    Key{"translate", &Hyp::translate, kShare},
    Key{"scale", &Hyp::scale, kShare},
    Key{"shear", &Hyp::shear, Range{-90, 90}},
    Key{"perspective", &Hyp::perspective, kShare},
    Key{"flipud", &Hyp::flipud, kShare},
    Key{"fliplr", &Hyp::fliplr, kShare},
    Key{"mosaic", &Hyp::mosaic, kShare},
    Key{"mixup", &Hyp::mixup, kShare},
    Key{"copy_paste", &Hyp::copy_paste, kShare},
    Key{"label_smoothing", &Hyp::label_smoothing, kBelowOne, false},
};

const Key* find_key(std::string_view name) {
  const auto key = std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& k) { return k.name == name; });
  return key == kKeys.end() ? nullptr : &*key;
}
const Key& key_of(std::string_view name) {
  const Key* key = find_key(name);
  FROST_CHECK(key != nullptr, "hyperparameters: no key '", name, "'");
  return *key;
}

// As PyYAML: a float always shows a point, so that it is a float again when read (0.01, 3.0, 1.0e-05).
std::string float_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find('.') == std::string::npos) text.insert(std::min(text.find('e'), text.size()), ".0");
  return text;
}

}  // namespace

double Hyp::get(std::string_view key) const { return this->*key_of(key).value; }

void Hyp::set(std::string_view key, double value) {
  this->*key_of(key).value = value;
  if (std::find(order_.begin(), order_.end(), key) == order_.end()) order_.emplace_back(key);
}

std::vector<std::pair<std::string, double>> Hyp::items() const {
  std::vector<std::pair<std::string, double>> all;
  for (const std::string& key : order_) all.emplace_back(key, get(key));
  return all;
}

Hyp parse_hyp(const std::string& text, const std::string& source, std::vector<std::string>* warnings) {
  const YAML::Node root = parse_yaml(text, source, nullptr);
  FROST_CHECK(root.IsMap(), source, ": lines 'key: number' expected");

  Hyp hyp;
  std::vector<std::string> seen;
  for (const auto& entry : root) {
    const std::string key = entry.first.Scalar();
    seen.push_back(key);
    const Key* known = find_key(key);
    if (known == nullptr) {
      if (warnings != nullptr) warnings->push_back(source + ": unknown hyperparameter '" + key + "' is ignored");
      continue;
    }
    double value = 0;
    const bool number = entry.second.IsScalar() && YAML::convert<double>::decode(entry.second, value);
    const std::string shown = entry.second.IsScalar() ? "'" + entry.second.Scalar() + "'" : "empty, a list or a map";
    FROST_CHECK(number && std::isfinite(value), source, ": '", key, "' is ", shown, ", a finite number expected");
    FROST_CHECK(known->range.holds(value), source, ":", entry.second.Mark().line + 1, ": '", key, "' is ",
                entry.second.Scalar(), ", it must be ", known->range.text());
    hyp.set(key, value);
  }
  for (const Key& key : kKeys) {
    const bool there = std::find(seen.begin(), seen.end(), key.name) != seen.end();
    FROST_CHECK(there || !key.required, source, ": key '", key.name, "' is missing");
  }
  return hyp;
}

Hyp load_hyp(const std::string& name, std::vector<std::string>* warnings) {
  if (names_a_file(name)) return parse_hyp(read_text(name), name, warnings);
  const std::string base = std::filesystem::path(name).filename().string();
  std::string known;
  for (const BuiltinFile& file : builtin_files()) {
    if (!file.name.starts_with("hyp.")) continue;
    if (base == file.name || "hyp." + base + ".yaml" == file.name || "hyp." + base == file.name)
      return parse_hyp(std::string(file.text), std::string(file.name), warnings);
    known += (known.empty() ? "" : ", ") + std::string(file.name);
  }
  FROST_CHECK(!std::filesystem::is_directory(name), name, ": is a folder, not a file");
  fail(name, ": no such file, and no built-in hyperparameters of that name (", known, ")");
}

std::string hyp_yaml(const Hyp& hyp) {
  std::string text;
  for (const auto& [key, value] : hyp.items()) text += key + ": " + float_text(value) + "\n";
  return text;
}

void write_hyp(const std::filesystem::path& file, const Hyp& hyp) {
  const std::string text = hyp_yaml(hyp);
  write_file_atomically(file, std::as_bytes(std::span(text)));
}

}  // namespace frost::yolo
