#include "models/yolo/model_io.h"

#include "models/zoo/module_comparison.h"

namespace frost::yolo {

std::unique_ptr<DetectionModel> fitted_model(Device& device, ModelSpec spec, std::uint64_t seed,
                                             const YoloCheckpoint& checkpoint, const std::string& file) {
  Widths widths;
  for (const auto& [name, tensor] : checkpoint.state) widths[name] = tensor.shape;
  try {
    auto model = std::make_unique<DetectionModel>(device, std::move(spec), seed, widths);
    const ModuleSettings settings = compare_modules(*model, checkpoint, file);
    if (settings.empty()) return model;
    return std::make_unique<DetectionModel>(device, with_settings(model->spec(), settings), seed, widths);
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

std::map<std::string, std::string> model_metadata(const DetectionModel& model, const std::map<std::string, double>& hyp) {
  YoloCheckpoint about;
  about.yaml_text = model.spec().text;
  about.yaml_file = model.spec().name;
  about.names = model.names;
  about.strides = model.detect().strides;
  about.nc = model.detect().classes;
  about.hyp = hyp;
  return metadata_of(about);
}

}  // namespace frost::yolo
