#include "engine/nn/widths.h"

#include "engine/nn/layers.h"

namespace frost {

Widths widths_of(Module& model) {
  Widths widths;
  for (const Parameter* p : model.parameters()) widths[p->name] = p->torch_shape;
  return widths;
}

void fit_widths(Module& model, const Widths& widths) {
  model.walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) {
      const auto wanted = widths.find(conv->weight.name);
      if (wanted == widths.end() || wanted->second.size() != 4) return;
      const std::vector<std::int64_t>&to = wanted->second, &from = conv->weight.torch_shape;
      if (to[2] != from[2] || to[3] != from[3] || to == from) return;
      // A depthwise convolution has a group for each channel; any other keeps its groups.
      const bool depthwise = conv->depthwise();
      conv->resize(depthwise ? to[0] : to[1] * conv->geometry.groups, to[0]);
    } else if (auto* bn = dynamic_cast<BatchNorm2d*>(&module)) {
      const auto wanted = widths.find(bn->weight.name);
      if (wanted != widths.end() && wanted->second.size() == 1) bn->resize(wanted->second[0]);
    }
  });
}

}  // namespace frost
