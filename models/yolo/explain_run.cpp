#include "models/yolo/explain_run.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/base/atomic_file.h"
#include "models/slim/explain_page.h"
#include "models/slim/explain_report.h"
#include "models/slim/freeze.h"
#include "models/yolo/model_io.h"
#include "models/yolo/trainee.h"
#include "models/zoo/weights.h"

namespace frost::yolo {
namespace {

using Json = nlohmann::ordered_json;

/// The model that the flags name: its graph is read once, its modules are built anew for each question.
MakeModel model_maker(const ExplainConfig& config) {
  FROST_CHECK(!config.weights.empty() || !config.cfg.empty(), "either --cfg or --weights must be specified");
  if (!config.cfg.empty())
    return [spec = load_model_spec(config.cfg)](Device& device) { return std::make_unique<DetectionModel>(device, spec); };
  const std::filesystem::path file = find_weights(config.weights);
  return [file, checkpoint = std::make_shared<YoloCheckpoint>(load_yolo_checkpoint(file, CheckpointPart::model))](
             Device& device) { return model_of(device, *checkpoint, file.string()); };
}

struct Questions {
  MakeModel make;
  TraineeOptions trainee;
  slim::StepOptions step;
  slim::BuildTrainee freezing(const std::vector<std::string>& terms) const {
    return detection_trainee(
        make, [terms](DetectionModel& model) { slim::freeze(model, slim::layer_names(model), terms); }, trainee);
  }
};

Json settings(const ExplainConfig& config, const std::string& model, int imgsz) {
  return {{"format", "frost.explain.1"},     {"model", model},
          {"freeze", config.freeze},         {"frozen_bn", config.frozen_bn == FrozenBn::batch ? "batch" : "running"},
          {"batch_size", config.batch_size}, {"imgsz", imgsz},
          {"precision", config.precision},   {"optimizer", name_of(config.optimizer)},
          {"recompute", config.recompute}};
}

void write(const std::filesystem::path& file, const std::string& text) {
  write_file_atomically(file, std::as_bytes(std::span(text)));
  fmt::print("Saved {}\n", file.string());
}

}  // namespace

void explain(const ExplainConfig& config) {
  const RunDevice run(config.device, config.precision);
  Backend& backend = run.device->backend();
  fmt::print("{}\n\n", run.line);
  Questions ask{.make = model_maker(config), .trainee = {}, .step = {}};
  std::string name;
  int stride = 32, layers = 0, backbone = 0;
  {
    Device dry(make_dry_backend(backend, {}));
    const auto model = ask.make(dry);
    name = std::filesystem::path(model->spec().name).stem().string();
    stride = model->stride();
    layers = static_cast<int>(model->layer_count());
    backbone = slim::layer_names(*model).backbone;
    slim::freeze(*model, slim::layer_names(*model), config.freeze);  // a mistake is told before anything is timed
  }
  const int imgsz = std::max((config.imgsz + stride - 1) / stride * stride, 2 * stride);
  ask.trainee = {.batch_size = config.batch_size,
                 .imgsz = imgsz,
                 .compute = run.compute,
                 .frozen_bn = config.frozen_bn,
                 .recompute = config.recompute};
  ask.step = {.optimizer = config.optimizer, .frozen_bn = config.frozen_bn};

  std::optional<slim::CallTimes> times;
  slim::Timer timer;
  if (config.measure || !config.html.empty()) {
    times.emplace(*run.device);
    timer = [&](const PrimitiveCall& call) { return times->seconds(call); };
  }
  const bool frozen = config.freeze != std::vector<std::string>{"0"};
  const std::string frozen_bn = config.frozen_bn == FrozenBn::batch ? "batch statistics" : "running statistics";
  const std::string what = fmt::format("--freeze {}", fmt::join(config.freeze, " "));
  slim::Explanation e{.title = fmt::format("{}, {}{}, batch {} at {}x{}, {}, {}", name, what,
                                           config.frozen_bn == FrozenBn::batch ? " --frozen-bn batch" : "",
                                           config.batch_size, imgsz, imgsz, config.precision, name_of(config.optimizer)),
                      .frozen = frozen ? what : "",
                      .now = slim::predict_step(ask.freezing(config.freeze), ask.step, backend, timer),
                      .without = slim::predict_step(ask.freezing({"0"}), ask.step, backend, timer),
                      .measured = {}};
  if (config.measure) {
    constexpr int kSteps = 4;
    e.measured = slim::measure_step(ask.freezing(config.freeze), ask.step, backend, kSteps);
  }
  fmt::print("One training step of {}.{}\n\n{}\n{}", e.title, frozen ? " In brackets: if everything were trainable." : "",
             slim::module_table(e, config.parts), slim::totals_table(e));
  if (times)
    fmt::print("Times are predicted from {} single calls, timed here one by one. {}\n", times->measured(), run.line);

  if (!config.json.empty()) {
    Json json = settings(config, name, imgsz);
    json["predicted"] = to_json(e.now);
    json["all_trainable"] = to_json(e.without);
    if (e.measured) json["measured"] = to_json(*e.measured);
    write(config.json, json.dump(1) + "\n");
  }
  if (!config.html.empty()) {
    std::vector<slim::StepReport> freezes;
    for (int n = 0; n <= layers; ++n)
      freezes.push_back(slim::predict_step(ask.freezing({std::to_string(n)}), ask.step, backend, timer));
    const bool one = config.freeze.size() == 1 && config.freeze[0].find_first_not_of("0123456789") == std::string::npos;
    write(config.html,
          slim::explain_page({.model = name,
                              .setting = fmt::format("One training step, batch {} at {}x{}, {}, {}, frozen batch norms: {}",
                                                     config.batch_size, imgsz, imgsz, config.precision,
                                                     name_of(config.optimizer), frozen_bn),
                              .footer = fmt::format("Bytes are exact: the real code ran on a device that only keeps books. "
                                                    "Times are predicted from {} single calls, timed on {}.",
                                                    times->measured(), backend.description()),
                              .backbone = backbone,
                              .start = one ? std::stoi(config.freeze[0]) : 0},
                             freezes));
  }
}

void explain_training(const TrainConfig& config, DetectionModel& model, int imgsz, const RunDevice& run) {
  if (config.multi_scale) {
    imgsz = (imgsz * 3 / 2 + model.stride() - 1) / model.stride() * model.stride();
    fmt::print("--multi-scale: the largest size counts, {}\n", imgsz);
  }
  std::map<std::string, const Parameter*> real;
  for (const Parameter* p : model.parameters()) real[p->name] = p;
  const auto question = [&](bool all_trainable) {
    return detection_trainee(
        [&](Device& device) {
          return std::make_unique<DetectionModel>(device, model.spec(), config.seed, widths_of(model));
        },
        [&, all_trainable](DetectionModel& copy) {
          for (Parameter* p : copy.parameters()) {
            p->trainable = all_trainable || real.at(p->name)->trainable;
            if (real.at(p->name)->mask) p->mask = Tensor(p->value.device(), p->value.shape(), DType::f32, Role::parameter);
          }
        },
        {.batch_size = config.batch_size,
         .imgsz = imgsz,
         .compute = run.compute,
         .frozen_bn = config.frozen_bn,
         .recompute = config.recompute});
  };
  const slim::StepOptions step{
      .optimizer = config.optimizer, .frozen_bn = config.frozen_bn, .average = true, .validation = true};
  const auto predicted = [&](bool all) { return slim::predict_step(question(all), step, run.device->backend()); };
  const bool frozen = std::any_of(real.begin(), real.end(), [](const auto& entry) { return !entry.second->trainable; });
  fmt::print(
      "\nDry run: batches of {} at {}x{}, {}, {}.\n\n{}\nNothing was trained. yolo-explain says it module by module.\n",
      config.batch_size, imgsz, imgsz, config.precision, name_of(config.optimizer),
      slim::totals_table({.title = "",
                          .frozen = frozen ? fmt::format("--freeze {}", fmt::join(config.freeze, " ")) : "",
                          .now = predicted(false),
                          .without = predicted(true),
                          .measured = {}}));
}

}  // namespace frost::yolo
