#pragma once
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "models/slim/explain.h"

namespace frost::slim {

/// A step as it will be, as it would be if everything trained, and, where it was measured, as it was.
struct Explanation {
  std::string title;   // "yolov5n, --freeze 10, batch 16 at 320x320, f32, SGD"
  std::string frozen;  // "--freeze 10": the heading of what is frozen; empty: nothing is
  StepReport now, without;
  std::optional<StepReport> later{};  // of the epochs after the first, where --cache-features makes them others
  std::optional<StepReport> measured{};
};

/// One line for each module: what it costs and, in brackets where it differs, what it would cost if everything trained.
/// `parts`: the leaves below each module too.
std::string module_table(const Explanation& explanation, bool parts);

/// Bytes by role, operations and time: without freezing, predicted, measured.
std::string totals_table(const Explanation& explanation);

/// docs/explain.md describes the fields.
nlohmann::ordered_json to_json(const StepReport& report);

}  // namespace frost::slim
