#include "models/slim/explain_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/base/atomic_file.h"
#include "engine/tensor/run_device.h"
#include "models/slim/explain_page.h"
#include "models/slim/explain_report.h"

namespace frost::slim {
namespace {

using Json = nlohmann::ordered_json;

Json settings(const ExplainConfig& config, const Subject& subject, const std::string& precision) {
  return {{"format", "frost.explain.1"},     {"model", subject.name},
          {"freeze", config.freeze},         {"frozen_bn", config.frozen_bn == FrozenBn::batch ? "batch" : "running"},
          {"batch_size", config.batch_size}, {"imgsz", subject.imgsz},
          {"precision", precision},          {"optimizer", name_of(config.optimizer)},
          {"recompute", config.recompute},   {"cache_features", config.cache_features}};
}

void write(const std::filesystem::path& file, const std::string& text) {
  write_file_atomically(file, std::as_bytes(std::span(text)));
  fmt::print("Saved {}\n", file.string());
}

}  // namespace

void explain(const ExplainConfig& config, const Subject& subject) {
  const RunDevice run(config.device, config.precision);
  Backend& backend = run.device->backend();
  fmt::print("{}\n\n", run.line);
  const StepOptions step{.optimizer = config.optimizer, .frozen_bn = config.frozen_bn};
  const auto freezing = [&](const std::vector<std::string>& terms) { return subject.freezing(terms, run.compute); };
  const std::string precision = name_of(run.compute);

  std::optional<CallTimes> times;
  Timer timer;
  if (config.measure || !config.html.empty()) {
    times.emplace(*run.device);
    timer = [&](const PrimitiveCall& call) { return times->seconds(call); };
  }
  const bool frozen = config.freeze != std::vector<std::string>{"0"};
  const std::string what = fmt::format("--freeze {}", fmt::join(config.freeze, " "));
  const std::string setting =
      fmt::format("batch {} at {}x{}, {}, {}{}", config.batch_size, subject.imgsz, subject.imgsz, precision,
                  name_of(config.optimizer), config.cache_features ? ", features from the cache" : "");
  Explanation e{.title = fmt::format("{}, {}{}, {}", subject.name, what,
                                     config.frozen_bn == FrozenBn::batch ? " --frozen-bn batch" : "", setting),
                .frozen = frozen ? what : "",
                .now = predict_step(freezing(config.freeze), step, backend, timer),
                .without = predict_step(freezing({"0"}), step, backend, timer)};
  if (config.measure) {
    constexpr int kSteps = 8;
    e.measured = measure_step(freezing(config.freeze), step, backend, kSteps);
  }
  fmt::print("One training step of {}.{}\n\n{}\n{}", e.title, frozen ? " In brackets: if everything were trainable." : "",
             module_table(e, config.parts), totals_table(e));
  if (times)
    fmt::print("Times are predicted from {} single calls, timed here one by one. {}\n", times->measured(), run.line);

  if (!config.json.empty()) {
    Json json = settings(config, subject, precision);
    json["predicted"] = to_json(e.now);
    json["all_trainable"] = to_json(e.without);
    if (e.measured) json["measured"] = to_json(*e.measured);
    write(config.json, json.dump(1) + "\n");
  }
  if (!config.html.empty()) {
    std::vector<StepReport> freezes;
    for (int n = 0; n <= subject.layers; ++n)
      freezes.push_back(predict_step(freezing({std::to_string(n)}), step, backend, timer));
    const bool one = config.freeze.size() == 1 && config.freeze[0].find_first_not_of("0123456789") == std::string::npos;
    if (!one) freezes.push_back(e.now);
    write(config.html,
          explain_page({.model = subject.name,
                        .setting = fmt::format("One training step, {}, frozen batch norms: {} statistics", setting,
                                               config.frozen_bn == FrozenBn::batch ? "batch" : "running"),
                        .footer = fmt::format("Bytes are exact: the real code ran on a device that only keeps books. "
                                              "Times are predicted from {} single calls, timed on {}.",
                                              times->measured(), backend.description()),
                        .backbone = subject.backbone,
                        .start = one ? std::stoi(config.freeze[0]) : 0,
                        .asked = one ? "" : fmt::format("{}", fmt::join(config.freeze, " "))},
                       freezes));
  }
}

void explain_training(Module& model, const TrainingSetting& setting, const Backend& like, const TraineeOf& trainee) {
  std::map<std::string, const Parameter*> real;
  for (const Parameter* p : model.parameters()) real[p->name] = p;
  const auto predicted = [&](bool all_trainable, FeatureCache features) {
    const auto mark = [&](Module& copy) {
      for (Parameter* p : copy.parameters()) {
        p->trainable = all_trainable || real.at(p->name)->trainable;
        if (real.at(p->name)->mask) p->mask = Tensor(p->value.device(), p->value.shape(), DType::f32, Role::parameter);
      }
    };
    const StepOptions step{.optimizer = setting.optimizer, .frozen_bn = setting.frozen_bn, .validation = true};
    return predict_step(trainee(mark, features), step, like);
  };
  const bool frozen = std::ranges::any_of(real, [](const auto& entry) { return !entry.second->trainable; });
  fmt::print(
      "\nDry run: batches of {} at {}x{}, {}, {}.\n\n{}\nNothing was trained. yolo-explain says it module by module.\n",
      setting.batch_size, setting.imgsz, setting.imgsz, name_of(setting.compute), name_of(setting.optimizer),
      totals_table(
          {.title = "",
           .frozen = frozen ? fmt::format("--freeze {}", fmt::join(setting.freeze, " ")) : "",
           .now = predicted(false, setting.cache_features ? FeatureCache::filling : FeatureCache::off),
           .without = predicted(true, FeatureCache::off),
           .later = setting.cache_features ? std::optional(predicted(false, FeatureCache::filled)) : std::nullopt}));
}

}  // namespace frost::slim
