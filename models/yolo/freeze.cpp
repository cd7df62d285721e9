#include "models/yolo/freeze.h"

#include <algorithm>
#include <numeric>

namespace frost::yolo {

std::vector<int> frozen_layers(const std::vector<int>& freeze, int layer_count) {
  std::vector<int> layers = freeze;
  if (freeze.size() == 1) {
    FROST_CHECK(freeze[0] >= 0 && freeze[0] <= layer_count, "--freeze ", freeze[0], ": the model has ", layer_count,
                " layers");
    layers.resize(static_cast<std::size_t>(freeze[0]));
    std::iota(layers.begin(), layers.end(), 0);
  }
  for (const int layer : layers)
    FROST_CHECK(layer >= 0 && layer < layer_count, "--freeze: layer ", layer, " does not exist, the model has layers 0 to ",
                layer_count - 1);
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

std::vector<std::string> freeze_layers(Module& model, const std::vector<int>& layers) {
  std::vector<std::string> prefixes, frozen;
  for (const int layer : layers) prefixes.push_back("model." + std::to_string(layer) + ".");
  for (Parameter* p : model.parameters()) {
    p->trainable = std::none_of(prefixes.begin(), prefixes.end(),
                                [&](const std::string& prefix) { return p->name.starts_with(prefix); });
    if (!p->trainable) frozen.push_back(p->name);
  }
  return frozen;
}

}  // namespace frost::yolo
