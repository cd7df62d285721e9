#include "models/model.h"

#include <map>

#include "engine/checkpoint/module_state.h"
#include "engine/checkpoint/sparse_checkpoint.h"
#include "engine/nn/layers.h"
#include "engine/nn/widths.h"

namespace frost {
namespace {

std::vector<Module*> modules_of(Model& model) {
  std::vector<Module*> modules;
  model.walk([&](const std::string&, Module& module) { modules.push_back(&module); });
  return modules;
}

/// Constants that a module was given after it was built.
void copy_constants(Module& from, Module& to) {
  if (auto* bn = dynamic_cast<BatchNorm2d*>(&from)) {
    auto& copy = dynamic_cast<BatchNorm2d&>(to);
    copy.eps = bn->eps, copy.momentum = bn->momentum;
  }
  if (auto* dropout = dynamic_cast<DropoutLayer*>(&from)) dynamic_cast<DropoutLayer&>(to).p = dropout->p;
}

}  // namespace

void Model::finish(LayerNames layers) {
  layers_ = std::move(layers);
  name_all("");
  for (int c = 0; c < classes(); ++c) names.push_back(std::to_string(c));
}

std::string Model::layer_type(int i) {
  const std::vector<std::string>& prefixes = layers_.prefixes[static_cast<std::size_t>(i)];
  std::string type = "stage";
  if (prefixes.size() == 1)
    walk([&](const std::string& name, Module& module) {
      if (name + "." != prefixes[0]) return;
      type = dynamic_cast<Conv2d*>(&module)        ? "Conv2d"
             : dynamic_cast<Linear*>(&module)      ? "Linear"
             : dynamic_cast<ConvNormAct*>(&module) ? "Conv"
             : dynamic_cast<Sequential*>(&module)  ? "stage"
                                                   : "block";
    });
  return type;
}

std::vector<Var> Model::features(Context&, const Var& image, int cut) {
  FROST_CHECK(cut == 0, architecture_, ": cannot be run in two parts");
  return {image};
}

std::vector<Var> Model::outputs_from(Context& context, int cut, const std::vector<Var>& features) {
  FROST_CHECK(cut == 0 && features.size() == 1, architecture_, ": cannot be run in two parts");
  return outputs(context, features.front());
}

std::unique_ptr<Model> Model::copy_architecture(Device& device) {
  std::unique_ptr<Model> copy = build_again(device);
  fit_widths(*copy, widths_of(*this));
  const std::vector<Module*> ours = modules_of(*this), theirs = modules_of(*copy);
  FROST_CHECK(ours.size() == theirs.size(), architecture_, ": its copy has other modules");
  for (std::size_t i = 0; i < ours.size(); ++i) copy_constants(*ours[i], *theirs[i]);
  const std::vector<Parameter*> from = parameters(), to = copy->parameters();
  for (std::size_t i = 0; i < from.size(); ++i) to[i]->trainable = from[i]->trainable;
  copy->names = names;
  return copy;
}

void Model::save(const std::filesystem::path& file) { write_checkpoint(file, state_of(*this), metadata()); }

}  // namespace frost
