#include "models/classify/yolo_classifier.h"

#include <fmt/format.h>

#include "models/graph/model_yaml.h"
#include "models/graph/registry.h"

namespace frost::classify {
namespace {

/// The settings of the layers before `cut`: the others of the graph are not built.
ModuleSettings settings_below(const ModelSpec& spec, int cut) {
  ModuleSettings kept = spec.modules;
  for (int i = cut; i < static_cast<int>(spec.layers.size()); ++i)
    std::erase_if(kept,
                  [layer = fmt::format("model.{}.", i)](const auto& item) { return (item.first + ".").starts_with(layer); });
  return kept;
}

}  // namespace

ClassifyHead::ClassifyHead(Device& device, std::int64_t in, int classes)
    : conv_(add_child("conv",
                      std::make_unique<ConvNormAct>(device, in, 1280, ConvGeometry{}, Activation{ActivationKind::silu}))),
      pool_(add_child("pool", std::make_unique<AdaptiveAvgPool2d>(1, 1))),
      drop_(add_child("drop", std::make_unique<DropoutLayer>(0.0f))),
      linear_(add_child("linear", std::make_unique<Linear>(device, 1280, classes))) {}

Var ClassifyHead::forward(Context& context, const Var& x, const Output&) {
  const Device::ScopeGuard scope(context.device, name());
  const Var y = pool_.forward(context, conv_.forward(context, x));
  return linear_.forward(context, drop_.forward(context, y));
}

YoloClassifier::YoloClassifier(Device& device, const std::string& architecture, int classes, Seed seed, int cutoff)
    : YoloClassifier(device, architecture, load_model_spec(architecture.substr(0, architecture.rfind("-cls"))), classes,
                     seed, cutoff) {}

YoloClassifier::YoloClassifier(Device& device, const std::string& architecture, const ModelSpec& spec, int classes,
                               Seed seed, int cutoff)
    : Classifier(architecture), spec_(spec), graph_(add_child("model", std::make_unique<Sequential>())) {
  const int most = static_cast<int>(spec.layers.size()) - 1;
  FROST_CHECK(cutoff >= 2 && cutoff <= most, "--cutoff ", cutoff, ": ", spec.name, " can be cut at layers 2 to ", most);
  LayerNames layers{.prefixes = {}, .backbone = cutoff - 1};
  std::int64_t channels = spec.channels;
  GraphBudget budget;
  const BlockBuilder builder{.device = device, .budget = budget};
  for (int i = 0; i < cutoff - 1; ++i) {
    const LayerSpec& layer = spec.layers[static_cast<std::size_t>(i)];
    FROST_CHECK(layer.from == std::vector<int>{-1}, "--cutoff ", cutoff, ": layer ", i, " (", layer.module, ") of ",
                spec.name, " reads other layers than the one before it; cut above it");
    BuiltLayer built = build_layer(builder, spec, layer, {channels});
    channels = built.channels;
    graph_.append(std::move(built.module));
  }
  apply_settings(*this, settings_below(spec, cutoff - 1), spec.name);
  head_ = static_cast<ClassifyHead*>(&graph_.append(std::make_unique<ClassifyHead>(device, channels, classes)));
  for (int i = 0; i < cutoff; ++i) layers.prefixes.push_back({fmt::format("model.{}.", i)});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void YoloClassifier::draw_weights(Rng rng) {
  walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) conv->initialise(rng);
  });
  head().initialise(rng);
}

std::unique_ptr<Model> YoloClassifier::build_again(Device& device) {
  return std::make_unique<YoloClassifier>(device, architecture(), spec_, classes(), std::nullopt, cutoff());
}

Metadata YoloClassifier::metadata() const {
  namespace key = checkpoint_key;
  Metadata about = Classifier::metadata();
  about.insert({{key::yaml, spec_.text}, {key::yaml_file, spec_.name}, {key::cutoff, std::to_string(cutoff())}});
  return about;
}

}  // namespace frost::classify
