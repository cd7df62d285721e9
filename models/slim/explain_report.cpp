#include "models/slim/explain_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace frost::slim {
namespace {

/// Three significant digits: 0.0123, 1.23, 12.3, 1234.
std::string number(double value) {
  if (value == 0) return "0";
  if (value < 0.0005) return "<0.001";
  return fmt::format("{:.{}f}", value, value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
}
std::string mb(std::int64_t bytes) { return number(static_cast<double>(bytes) / 1e6); }
std::string gflop(std::int64_t flops) { return number(static_cast<double>(flops) / 1e9); }
std::string ms(double seconds) { return number(seconds * 1e3); }

/// "1.2", or "0 (1.2)" where it would be another without freezing.
std::string both(const std::string& now, const std::string& without) {
  return now == without ? now : fmt::format("{} ({})", now, without);
}

constexpr const char* kRow = "{:<20} {:<13}{:>12}{:>8}{:>15}{:>17}{:>17}{:>15}{:>15}{:>17}{:>17}";

std::string row(const std::string& name, const std::string& type, const StepCost& a, const StepCost& b, bool timed,
                const StepCost* measured) {
  std::string line = fmt::format(
      fmt::runtime(kRow), name, type, a.parameters,
      a.parameters ? fmt::format("{:.0f} %", 100.0 * static_cast<double>(a.trainable) / static_cast<double>(a.parameters))
                   : "",
      both(mb(a.weights + a.buffers), mb(b.weights + b.buffers)), both(mb(a.gradients), mb(b.gradients)),
      both(mb(a.optimizer + a.ema), mb(b.optimizer + b.ema)), both(mb(a.saved), mb(b.saved)),
      both(gflop(a.forward_flops), gflop(b.forward_flops)), both(gflop(a.dgrad_flops), gflop(b.dgrad_flops)),
      both(gflop(a.wgrad_flops), gflop(b.wgrad_flops)));
  if (timed) line += fmt::format("{:>18}", both(ms(a.seconds()), ms(b.seconds())));
  if (measured) line += fmt::format("{:>10}", ms(measured->seconds()));
  return line + "\n";
}

/// How far a prediction is from what was measured: "exact", "-3.1 %".
std::string difference(double predicted, double measured) {
  return predicted == measured ? "exact" : fmt::format("{:+.1f} %", 100 * (predicted / measured - 1));
}

/// The one of the same name, or nothing at all.
StepCost same(const std::vector<ModuleCost>& modules, const std::string& name) {
  for (const ModuleCost& module : modules)
    if (module.name == name) return module.cost;
  return {};
}

}  // namespace

std::string module_table(const Explanation& e, bool parts) {
  const bool timed = e.now.total.seconds() > 0;
  std::string text = fmt::format(fmt::runtime(kRow), "module", "type", "parameters", "trains", "weights", "gradients",
                                 "optimizer, EMA", "saved", "forward", "input gradient", "weight gradient");
  if (timed) text += fmt::format("{:>18}", "time");
  if (e.measured) text += fmt::format("{:>10}", "measured");
  text += "\n";
  text += fmt::format(fmt::runtime(kRow), "", "", "", "", "MB", "MB", "MB", "MB", "GFLOP", "GFLOP", "GFLOP");
  if (timed) text += fmt::format("{:>18}", "ms");
  text += e.measured ? fmt::format("{:>10}\n", "ms") : "\n";
  for (std::size_t i = 0; i < e.now.modules.size(); ++i) {
    const ModuleCost &now = e.now.modules[i], &without = e.without.modules[i];
    const ModuleCost* measured = e.measured ? &e.measured->modules[i] : nullptr;
    text += row(now.name, now.type, now.cost, without.cost, timed, measured ? &measured->cost : nullptr);
    if (!parts) continue;
    for (const ModuleCost& part : now.parts) {
      const StepCost real = measured ? same(measured->parts, part.name) : StepCost{};
      text += row("  " + part.name, part.type, part.cost, same(without.parts, part.name), timed, measured ? &real : nullptr);
    }
  }
  const auto measured = [&](StepCost StepReport::*cost) { return e.measured ? &(*e.measured.*cost) : nullptr; };
  text += row("the rest", "", e.now.rest, e.without.rest, timed, measured(&StepReport::rest));
  return text + row("total", "", e.now.total, e.without.total, timed, measured(&StepReport::total));
}

std::string totals_table(const Explanation& e) {
  const bool frozen = !e.frozen.empty();
  std::string text = fmt::format("{:<28}", "");
  if (frozen) text += fmt::format("{:>18}", "all trainable");
  text += fmt::format("{:>18}", frozen ? e.frozen : "predicted");
  if (frozen) text += fmt::format("{:>8}", "");
  if (e.later) text += fmt::format("{:>14}", "later epochs");
  if (e.measured) text += fmt::format("{:>14}{:>12}", "measured", "prediction");
  text += "\n";
  const auto line_of = [&](const std::string& what, double unit, const auto& value) {
    const auto scaled = [&](const StepReport& r) { return static_cast<double>(value(r)) / unit; };
    const double without = scaled(e.without), now = scaled(e.now);
    text += fmt::format("{:<28}", what);
    if (frozen) text += fmt::format("{:>18}", number(without));
    text += fmt::format("{:>18}", number(now));
    const double change = without > 0 ? 100 * (now / without - 1) : 0;
    if (frozen) text += fmt::format("{:>8}", change != 0 && change < 1000 ? fmt::format("{:+.0f} %", change) : "");
    if (e.later) text += fmt::format("{:>14}", number(scaled(*e.later)));
    if (e.measured) text += fmt::format("{:>14}{:>12}", number(scaled(*e.measured)), difference(now, scaled(*e.measured)));
    text += "\n";
  };
  text += "memory at its peak, MB\n";
  for (int role = 0; role < kRoleCount; ++role)
    if (e.without.peaks[static_cast<std::size_t>(role)] || e.now.peaks[static_cast<std::size_t>(role)])
      line_of(fmt::format("  {}", name_of(static_cast<Role>(role))), 1e6,
              [&](const StepReport& r) { return r.peaks[static_cast<std::size_t>(role)]; });
  line_of("  all at a time", 1e6, [](const StepReport& r) { return r.peak; });
  if (e.now.whole_peak != e.now.peak)
    line_of("  ... and in validation", 1e6, [](const StepReport& r) { return r.whole_peak; });
  const StepReport& caching = e.later ? *e.later : e.now;
  if (caching.kept_each > 0)
    text += fmt::format("  --cache-features keeps {} MB of each image, on the host or on disk\n", mb(caching.kept_each));
  text += "arithmetic, GFLOP\n";
  line_of("  forward", 1e9, [](const StepReport& r) { return r.total.forward_flops; });
  line_of("  input gradients", 1e9, [](const StepReport& r) { return r.total.dgrad_flops; });
  line_of("  weight gradients", 1e9, [](const StepReport& r) { return r.total.wgrad_flops; });
  if (e.now.total.seconds() > 0) {
    text += "time, ms\n";
    line_of("  forward", 1e-3, [](const StepReport& r) { return r.total.forward_seconds; });
    line_of("  backward", 1e-3, [](const StepReport& r) { return r.total.backward_seconds; });
    line_of("  optimizer step", 1e-3, [](const StepReport& r) { return r.total.update_seconds; });
    line_of("  a whole step", 1e-3,
            [](const StepReport& r) { return r.wall_seconds > 0 ? r.wall_seconds : r.total.seconds(); });
  }
  return text;
}

namespace {

using Json = nlohmann::ordered_json;

Json cost_json(const StepCost& c) {
  return {{"parameters", c.parameters},
          {"trainable", c.trainable},
          {"weight_bytes", c.weights},
          {"buffer_bytes", c.buffers},
          {"gradient_bytes", c.gradients},
          {"optimizer_bytes", c.optimizer},
          {"ema_bytes", c.ema},
          {"saved_bytes", c.saved},
          {"forward_flops", c.forward_flops},
          {"dgrad_flops", c.dgrad_flops},
          {"wgrad_flops", c.wgrad_flops},
          {"forward_seconds", c.forward_seconds},
          {"backward_seconds", c.backward_seconds},
          {"update_seconds", c.update_seconds}};
}

Json module_json(const ModuleCost& m) {
  Json json{{"name", m.name}, {"type", m.type}};
  json.update(cost_json(m.cost));
  if (m.parts.empty()) return json;
  json["parts"] = Json::array();
  for (const ModuleCost& part : m.parts) json["parts"].push_back(module_json(part));
  return json;
}

Json roles_json(const std::array<std::int64_t, kRoleCount>& bytes) {
  Json json = Json::object();
  for (int role = 0; role < kRoleCount; ++role)
    json[name_of(static_cast<Role>(role))] = bytes[static_cast<std::size_t>(role)];
  return json;
}

}  // namespace

Json to_json(const StepReport& r) {
  Json json{{"peak_bytes", r.peak},
            {"peak_bytes_by_role", roles_json(r.peaks)},
            {"resident_bytes_by_role", roles_json(r.resident)},
            {"kept_bytes_of_each_image", r.kept_each},
            {"wall_seconds", r.wall_seconds}};
  json["primitives"] = Json::object();
  for (int p = 0; p <= static_cast<int>(Primitive::ema_update); ++p)
    if (const std::int64_t count = r.calls[static_cast<std::size_t>(p)])
      json["primitives"][name_of(static_cast<Primitive>(p))] = count;
  json["total"] = cost_json(r.total);
  json["rest"] = cost_json(r.rest);
  json["modules"] = Json::array();
  for (const ModuleCost& module : r.modules) json["modules"].push_back(module_json(module));
  return json;
}

}  // namespace frost::slim
