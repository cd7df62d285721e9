#include "models/slim/explain_page.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "models/graph/builtin_files.h"

namespace frost::slim {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kColumns[] = {
    "parameters", "trainable",     "weights",     "buffers",     "gradients",       "optimizer",        "ema",
    "saved",      "forward_flops", "dgrad_flops", "wgrad_flops", "forward_seconds", "backward_seconds", "update_seconds"};
Json numbers(const StepCost& c) {
  const auto microseconds = [](double seconds) { return std::round(seconds * 1e7) / 1e7; };  // shorter, and precise enough
  return {c.parameters,
          c.trainable,
          c.weights,
          c.buffers,
          c.gradients,
          c.optimizer,
          c.ema,
          c.saved,
          c.forward_flops,
          c.dgrad_flops,
          c.wgrad_flops,
          microseconds(c.forward_seconds),
          microseconds(c.backward_seconds),
          microseconds(c.update_seconds)};
}

Json report_json(const StepReport& report) {
  Json json{{"peak", report.peak}, {"total", numbers(report.total)}};
  for (int role = 0; role < kRoleCount; ++role)
    json["roles"][name_of(static_cast<Role>(role))] = report.peaks[static_cast<std::size_t>(role)];
  json["modules"] = json["parts"] = Json::array();
  for (const ModuleCost& module : report.modules) {
    json["modules"].push_back(numbers(module.cost));
    Json parts = Json::array();
    for (const ModuleCost& part : module.parts) {
      Json row{part.name, part.type};
      for (const Json& number : numbers(part.cost)) row.push_back(number);
      parts.push_back(std::move(row));
    }
    json["parts"].push_back(std::move(parts));
  }
  return json;
}

}  // namespace

std::string explain_page(const PageText& text, const std::vector<StepReport>& freezes) {
  Json data{{"model", text.model},       {"setting", text.setting}, {"footer", text.footer}, {"start", text.start},
            {"backbone", text.backbone}, {"columns", kColumns},     {"asked", text.asked}};
  data["modules"] = data["freezes"] = Json::array();
  for (const ModuleCost& module : freezes.front().modules)
    data["modules"].push_back({{"name", module.name}, {"type", module.type}});
  for (const StepReport& report : freezes) data["freezes"].push_back(report_json(report));

  std::string json = data.dump();
  for (std::size_t at = 0; (at = json.find("</", at)) != std::string::npos; at += 3)
    json.insert(at + 1, "\\");  // no end tag
  std::string page(builtin_file("explain.html").value());
  const std::string place = "@DATA@";
  return page.replace(page.find(place), place.size(), json);
}

}  // namespace frost::slim
