#include "models/yolo/model_io.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/trace/trace.h"
#include "models/zoo/module_comparison.h"

namespace frost::yolo {
namespace {

/// What the modules of a .pt say beyond its YAML. They are compared with a graph as wide as the tensors, so that a pruned
/// depthwise convolution has its groups; where no such graph can be, with one as the YAML has it: the module that differs
/// has a better message than its shapes.
ModuleSettings settings_of(const ModelSpec& spec, const YoloCheckpoint& checkpoint, const Widths& widths,
                           const std::string& file) {
  if (checkpoint.modules.empty()) return {};
  check_inputs(spec, checkpoint.modules, file);
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device meta(make_meta_backend(*cpu, {}));
  std::unique_ptr<DetectionModel> built;
  try {
    built = std::make_unique<DetectionModel>(meta, spec, 0, widths);
  } catch (const Error&) {
    built = std::make_unique<DetectionModel>(meta, spec);
  }
  return compare_modules(*built, checkpoint.modules, checkpoint.state, file);
}

}  // namespace

std::unique_ptr<DetectionModel> fitted_model(Device& device, ModelSpec spec, std::uint64_t seed,
                                             const YoloCheckpoint& checkpoint, const std::string& file) {
  Widths widths;
  for (const auto& [name, tensor] : checkpoint.state) widths[name] = tensor.shape;
  try {
    const ModuleSettings settings = settings_of(spec, checkpoint, widths, file);
    if (!settings.empty()) spec = with_settings(spec, settings);
    auto model = std::make_unique<DetectionModel>(device, std::move(spec), seed, widths);
    const Detect& head = model->detect();
    FROST_CHECK(checkpoint.head_strides.empty() || checkpoint.head_strides == head.strides, file, ": ", head.name(),
                ": strides ", fmt::format("{}", fmt::join(checkpoint.head_strides, ", ")), ", its graph gives ",
                fmt::format("{}", fmt::join(head.strides, ", ")));
    return model;
  } catch (const Error& error) {
    const std::string what = error.what();
    fail(what.starts_with(file) ? "" : file + ": ", what);
  }
}

std::unique_ptr<DetectionModel> model_of(Device& device, const YoloCheckpoint& checkpoint, const std::string& file) {
  const std::string name = checkpoint.yaml_file.empty() ? file : checkpoint.yaml_file;
  auto model = fitted_model(device, parse_model_yaml(checkpoint.yaml_text, name), 0, checkpoint, file);
  const LoadReport report = load_state(*model, checkpoint.state);
  const auto& trouble = report.missing.empty() ? report.other_shape : report.missing;
  FROST_CHECK(trouble.empty(), file, ": does not fit its own graph: ", trouble.size(), " tensors ",
              report.missing.empty() ? "of another shape" : "missing", ", the first is ", trouble.front());
  if (!checkpoint.names.empty()) model->names = checkpoint.names;
  const ModuleSettings& set_apart = model->spec().modules;
  model->walk([&](const std::string& name, Module& module) {
    // A .pt's norms have been compared one by one; frost's own older files name one eps for all.
    if (auto* bn = dynamic_cast<BatchNorm2d*>(&module); bn && checkpoint.modules.empty() && !set_apart.contains(name))
      bn->eps = static_cast<float>(checkpoint.bn_eps);
  });
  return model;
}

std::unique_ptr<DetectionModel> load_model(Device& device, const std::filesystem::path& weights) {
  return model_of(device, load_yolo_checkpoint(weights, CheckpointPart::ema_or_model), weights.string());
}

}  // namespace frost::yolo
