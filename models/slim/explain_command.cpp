#include "models/slim/explain_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/base/atomic_file.h"
#include "engine/tensor/run_device.h"
#include "models/slim/explain_page.h"
#include "models/slim/explain_report.h"

namespace frost::slim {
namespace {

using Json = nlohmann::ordered_json;

Json settings(const ExplainConfig& config, const Model& model, int imgsz, const std::string& precision) {
  return {{"format", "frost.explain.1"},     {"model", model.architecture()},
          {"freeze", config.freeze},         {"frozen_bn", config.frozen_bn == FrozenBn::batch ? "batch" : "running"},
          {"batch_size", config.batch_size}, {"imgsz", imgsz},
          {"precision", precision},          {"optimizer", name_of(config.optimizer)},
          {"recompute", config.recompute},   {"cache_features", config.cache_features}};
}

void write(const std::filesystem::path& file, const std::string& text, Observer& observer) {
  write_file_atomically(file, std::as_bytes(std::span(text)));
  observer.notice(fmt::format("Saved {}\n", file.string()));
}

}  // namespace

void explain(const ExplainConfig& config, Model& model, int imgsz, const MakeTask& make, const RunDevice& run,
             Observer& observer) {
  Backend& backend = run.device->backend();
  observer.notice(fmt::format("{}\n\n", run.line));
  const StepOptions step{
      .optimizer = config.optimizer, .frozen_bn = config.frozen_bn, .warm_up = config.cache_features ? 3 : 1};
  const std::string precision = name_of(run.compute);

  std::optional<CallTimes> times;
  Timer timer;
  if (config.measure || !config.html.empty()) {
    times.emplace(*run.device);
    timer = [&](const PrimitiveCall& call) { return times->seconds(call); };
  }
  const auto predicted = [&](const std::vector<std::string>& terms) {
    model.freeze(terms);
    return predict_step(model, make, step, backend, timer);
  };
  const bool frozen = config.freeze != std::vector<std::string>{"0"};
  const std::string what = fmt::format("--freeze {}", fmt::join(config.freeze, " "));
  const std::string setting =
      fmt::format("batch {} at {}x{}, {}, {}{}", config.batch_size, imgsz, imgsz, precision, name_of(config.optimizer),
                  config.cache_features ? ", features from the cache" : "");
  Explanation e{.title = fmt::format("{}, {}{}, {}", model.architecture(), what,
                                     config.frozen_bn == FrozenBn::batch ? " --frozen-bn batch" : "", setting),
                .frozen = frozen ? what : "",
                .now = predicted(config.freeze),
                .without = predicted({"0"})};
  if (config.measure) {
    constexpr int kSteps = 8;
    model.freeze(config.freeze);
    e.measured = measure_step(model, make, step, backend, kSteps);
  }
  observer.notice(fmt::format("One training step of {}.{}\n\n{}\n{}", e.title,
                              frozen ? " In brackets: if everything were trainable." : "", module_table(e, config.parts),
                              totals_table(e)));
  if (times)
    observer.notice(
        fmt::format("Times are predicted from {} single calls, timed here one by one. {}\n", times->measured(), run.line));

  if (!config.json.empty()) {
    Json json = settings(config, model, imgsz, precision);
    json["predicted"] = to_json(e.now);
    json["all_trainable"] = to_json(e.without);
    if (e.measured) json["measured"] = to_json(*e.measured);
    write(config.json, json.dump(1) + "\n", observer);
  }
  if (!config.html.empty()) {
    std::vector<StepReport> freezes;
    for (int n = 0; n <= model.layers().count(); ++n) freezes.push_back(predicted({std::to_string(n)}));
    const bool one = config.freeze.size() == 1 && config.freeze[0].find_first_not_of("0123456789") == std::string::npos;
    if (!one) freezes.push_back(e.now);
    write(config.html,
          explain_page({.model = model.architecture(),
                        .setting = fmt::format("One training step, {}, frozen batch norms: {} statistics", setting,
                                               config.frozen_bn == FrozenBn::batch ? "batch" : "running"),
                        .footer = fmt::format("Bytes are exact: the real code ran on a device that only keeps accounts. "
                                              "Times are predicted from {} single calls, timed on {}.",
                                              times->measured(), backend.description()),
                        .backbone = model.layers().backbone,
                        .start = one ? std::stoi(config.freeze[0]) : 0,
                        .asked = one ? "" : fmt::format("{}", fmt::join(config.freeze, " "))},
                       freezes),
          observer);
  }
}

void explain_training(Model& model, const TrainingSetting& setting, const Backend& like,
                      const std::function<MakeTask(FeatureCache)>& make, Observer& observer) {
  const auto predicted = [&](bool all_trainable, FeatureCache features) {
    return predict_step(model, make(features),
                        {.optimizer = setting.optimizer,
                         .frozen_bn = setting.frozen_bn,
                         .validation = true,
                         .all_trainable = all_trainable,
                         .warm_up = features == FeatureCache::filled ? 3 : 1},
                        like);
  };
  const bool frozen = std::ranges::any_of(model.parameters(), [](const Parameter* p) { return !p->trainable; });
  observer.notice(fmt::format(
      "\nDry run: batches of {} at {}x{}, {}, {}.\n\n{}\nNothing was trained. yolo-explain says it module by module.\n",
      setting.batch_size, setting.imgsz, setting.imgsz, name_of(setting.compute), name_of(setting.optimizer),
      totals_table(
          {.title = "",
           .frozen = frozen ? fmt::format("--freeze {}", fmt::join(setting.freeze, " ")) : "",
           .now = predicted(false, setting.cache_features ? FeatureCache::filling : FeatureCache::off),
           .without = predicted(true, FeatureCache::off),
           .later = setting.cache_features ? std::optional(predicted(false, FeatureCache::filled)) : std::nullopt})));
}

}  // namespace frost::slim
