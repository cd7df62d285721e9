#include "models/classify/mobilenet_v3.h"

#include <fmt/format.h>

#include <algorithm>

namespace frost::classify {
namespace {

constexpr Activation kRelu{ActivationKind::relu}, kHardswish{ActivationKind::hardswish},
    kHardsigmoid{ActivationKind::hardsigmoid};

std::unique_ptr<ConvNormAct> block(Device& device, std::int64_t in, std::int64_t out, int kernel, int stride, int groups,
                                   Activation activation) {
  return std::make_unique<ConvNormAct>(device, in, out, square(kernel, stride, groups), activation,
                                       ConvNormSettings{1e-3f, 0.01f, "0", "1", ""});
}

/// A quarter of the width in whole eights, and never less than 9/10 of that quarter.
std::int64_t squeezed(std::int64_t width) {
  const std::int64_t quarter = width / 4, rounded = std::max<std::int64_t>(8, (quarter + 4) / 8 * 8);
  return 10 * rounded < 9 * quarter ? rounded + 8 : rounded;
}

/// x * s, where s is made of x's mean over the image: fc1 - ReLU - fc2 - hard-sigmoid.
class SqueezeExcite : public Module {
 public:
  SqueezeExcite(Device& device, std::int64_t width)
      : fc1_(add_child("fc1", std::make_unique<Conv2d>(device, width, squeezed(width), ConvGeometry{}, true))),
        fc2_(add_child("fc2", std::make_unique<Conv2d>(device, squeezed(width), width, ConvGeometry{}, true))) {}
  Var forward(Context& context, const Var& x, const Output& = {}) override {
    const Device::ScopeGuard scope(context.device, name());
    const Var mean = average_pool(context, x, 1, 1);
    return mul(context, x, fc2_.forward_act(context, fc1_.forward_act(context, mean, kRelu), kHardsigmoid));
  }

 private:
  Conv2d &fc1_, &fc2_;
};

struct Row {
  int kernel;
  std::int64_t wide, out;
  bool squeeze;
  Activation activation;
  int stride;
};

/// x --- 1x1, wide - depthwise (stride) - squeeze-excite, in some - 1x1 without activation --- (+)
///    `------------------------- where the shape stays, as it is -----------------------------'
class InvertedResidual : public Module {
 public:
  InvertedResidual(Device& device, std::int64_t in, const Row& row) : residual_(row.stride == 1 && in == row.out) {
    int next = 0;
    const auto name = [&] { return fmt::format("block.{}", next++); };
    if (row.wide != in) expand_ = &add_child(name(), block(device, in, row.wide, 1, 1, 1, row.activation));
    depthwise_ = &add_child(
        name(), block(device, row.wide, row.wide, row.kernel, row.stride, static_cast<int>(row.wide), row.activation));
    if (row.squeeze) squeeze_ = &add_child(name(), std::make_unique<SqueezeExcite>(device, row.wide));
    project_ = &add_child(name(), block(device, row.wide, row.out, 1, 1, 1, {}));
  }
  Var forward(Context& context, const Var& x, const Output& output = {}) override {
    Var y = depthwise_->forward(context, expand_ ? expand_->forward(context, x) : x);
    if (squeeze_) y = squeeze_->forward(context, y);
    return project_->forward(context, y, residual_ ? &x : nullptr, output);
  }

 private:
  bool residual_;
  ConvNormAct *expand_ = nullptr, *depthwise_ = nullptr, *project_ = nullptr;
  SqueezeExcite* squeeze_ = nullptr;
};

std::vector<Row> rows_of(MobileNetV3Kind kind) {
  if (kind == MobileNetV3Kind::small)
    return {{3, 16, 16, true, kRelu, 2},       {3, 72, 24, false, kRelu, 2},      {3, 88, 24, false, kRelu, 1},
            {5, 96, 40, true, kHardswish, 2},  {5, 240, 40, true, kHardswish, 1}, {5, 240, 40, true, kHardswish, 1},
            {5, 120, 48, true, kHardswish, 1}, {5, 144, 48, true, kHardswish, 1}, {5, 288, 96, true, kHardswish, 2},
            {5, 576, 96, true, kHardswish, 1}, {5, 576, 96, true, kHardswish, 1}};
  return {{3, 16, 16, false, kRelu, 1},       {3, 64, 24, false, kRelu, 2},       {3, 72, 24, false, kRelu, 1},
          {5, 72, 40, true, kRelu, 2},        {5, 120, 40, true, kRelu, 1},       {5, 120, 40, true, kRelu, 1},
          {3, 240, 80, false, kHardswish, 2}, {3, 200, 80, false, kHardswish, 1}, {3, 184, 80, false, kHardswish, 1},
          {3, 184, 80, false, kHardswish, 1}, {3, 480, 112, true, kHardswish, 1}, {3, 672, 112, true, kHardswish, 1},
          {5, 672, 160, true, kHardswish, 2}, {5, 960, 160, true, kHardswish, 1}, {5, 960, 160, true, kHardswish, 1}};
}

}  // namespace

MobileNetV3::MobileNetV3(Device& device, MobileNetV3Kind kind, int classes, Seed seed)
    : Classifier(kind == MobileNetV3Kind::small ? "mobilenet_v3_small" : "mobilenet_v3_large"),
      features_(add_child("features", std::make_unique<Sequential>())),
      classifier_(add_child("classifier", std::make_unique<Sequential>())) {
  const std::vector<Row> rows = rows_of(kind);
  std::int64_t in = 16;
  features_.append(block(device, 3, in, 3, 2, 1, kHardswish));
  for (const Row& row : rows) {
    features_.append(std::make_unique<InvertedResidual>(device, in, row));
    in = row.out;
  }
  const std::int64_t last = 6 * in, hidden = kind == MobileNetV3Kind::small ? 1024 : 1280;
  features_.append(block(device, in, last, 1, 1, 1, kHardswish));
  classifier_.append(std::make_unique<Linear>(device, last, hidden));
  classifier_.append(std::make_unique<Activate>(kHardswish));
  classifier_.append(std::make_unique<DropoutLayer>(0.2f));
  head_ = &classifier_.append(std::make_unique<Linear>(device, hidden, classes));

  LayerNames layers{.prefixes = {}, .backbone = static_cast<int>(features_.size())};
  for (std::size_t i = 0; i < features_.size(); ++i) layers.prefixes.push_back({fmt::format("features.{}.", i)});
  for (const char* name : {"classifier.0.", "classifier.3."}) layers.prefixes.push_back({name});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void MobileNetV3::draw_weights(Rng rng) {
  walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) initialise_for_relu(*conv, rng);
    if (auto* linear = dynamic_cast<Linear*>(&module)) linear->initialise_normal(rng, 0.01);
  });
}

Var MobileNetV3::forward(Context& context, const Var& x, const Output&) {
  return classifier_.forward(context, average_pool(context, features_.forward(context, x), 1, 1));
}

}  // namespace frost::classify
