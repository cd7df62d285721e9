#include "models/classify/xception.h"

#include <fmt/format.h>

#include <optional>
#include <tuple>

namespace frost::classify {
namespace {

constexpr Activation kRelu{ActivationKind::relu};

std::unique_ptr<BatchNorm2d> norm(Device& device, std::int64_t channels) {
  return std::make_unique<BatchNorm2d>(device, channels);
}

}  // namespace

/// A depthwise 3x3 (`conv1`), then a 1x1 over channels (`pointwise`), run with the norm that follows it.
class SeparableConv : public Module {
 public:
  SeparableConv(Device& device, std::int64_t in, std::int64_t out)
      : depthwise_(add_child("conv1", std::make_unique<Conv2d>(device, in, in, square(3, 1, static_cast<int>(in)), false))),
        pointwise_(add_child("pointwise", std::make_unique<Conv2d>(device, in, out, square(1), false))) {}
  void follow(BatchNorm2d& bn) { fused_.emplace(pointwise_, bn); }
  Var forward(Context& context, const Var& x, Activation activation, const Var* residual = nullptr,
              const Output& output = {}) {
    const Device::ScopeGuard scope(context.device, name());
    return fused_->forward(context, depthwise_.forward(context, x), activation, residual, output);
  }

 private:
  Conv2d &depthwise_, &pointwise_;
  std::optional<FusedConvNorm> fused_;
};

/// x --- [ReLU] - separable - norm, two or three times --- [max pool 3x3 / 2] --- (+)
///    `---- skip 1x1 / 2 - skipbn where the shape changes, else as it is --------'
class XceptionBlock : public Module {
 public:
  XceptionBlock(Device& device, const std::vector<std::int64_t>& widths, bool strides, bool begins_with_relu)
      : begins_with_relu_(begins_with_relu) {
    if (strides) {
      Conv2d& skip = add_child("skip", std::make_unique<Conv2d>(device, widths.front(), widths.back(), square(1, 2), false));
      skip_.emplace(skip, add_child("skipbn", norm(device, widths.back())));
    }
    int position = begins_with_relu ? 1 : 0;
    for (std::size_t i = 0; i + 1 < widths.size(); ++i, position += 3) {  // separable, norm, ReLU
      steps_.push_back(
          &add_child(fmt::format("rep.{}", position), std::make_unique<SeparableConv>(device, widths[i], widths[i + 1])));
      steps_.back()->follow(add_child(fmt::format("rep.{}", position + 1), norm(device, widths[i + 1])));
    }
  }
  Var forward(Context& context, const Var& x, const Output& output = {}) override {
    const Device::ScopeGuard scope(context.device, name());
    Var y = begins_with_relu_ ? activation(context, x, kRelu) : x;
    for (std::size_t i = 0; i + 1 < steps_.size(); ++i) y = steps_[i]->forward(context, y, kRelu);
    if (!skip_) return steps_.back()->forward(context, y, {}, &x, output);
    y = max_pool(context, steps_.back()->forward(context, y, {}), {.kernel = 3, .stride = 2, .pad = 1});
    return add(context, y, skip_->forward(context, x, {}), output);
  }

 private:
  bool begins_with_relu_;
  std::optional<FusedConvNorm> skip_;
  std::vector<SeparableConv*> steps_;
};

Xception::Xception(Device& device, int classes, Seed seed) : Classifier("xception") {
  LayerNames layers{.prefixes = {}, .backbone = 16};
  const auto stem = [&](int number, std::int64_t in, std::int64_t out, int stride) {
    ConvGeometry geometry = square(3, stride);
    geometry.pad_h = geometry.pad_w = 0;
    Conv2d& conv = add_child(fmt::format("conv{}", number), std::make_unique<Conv2d>(device, in, out, geometry, false));
    stem_.push_back({&conv, FusedConvNorm(conv, add_child(fmt::format("bn{}", number), norm(device, out)))});
    layers.prefixes.push_back({fmt::format("conv{}.", number), fmt::format("bn{}.", number)});
  };
  stem(1, 3, 32, 2);
  stem(2, 32, 64, 1);
  for (int b = 1; b <= 12; ++b) {
    const std::vector<std::int64_t> widths = b == 1    ? std::vector<std::int64_t>{64, 128, 128}
                                             : b == 2  ? std::vector<std::int64_t>{128, 256, 256}
                                             : b == 3  ? std::vector<std::int64_t>{256, 728, 728}
                                             : b == 12 ? std::vector<std::int64_t>{728, 728, 1024}
                                                       : std::vector<std::int64_t>{728, 728, 728, 728};
    blocks_.push_back(
        &add_child(fmt::format("block{}", b), std::make_unique<XceptionBlock>(device, widths, widths.size() == 3, b > 1)));
    layers.prefixes.push_back({fmt::format("block{}.", b)});
  }
  for (const auto& [number, in, out] : {std::tuple{3, 1024, 1536}, {4, 1536, 2048}}) {
    auto& conv = add_child(fmt::format("conv{}", number), std::make_unique<SeparableConv>(device, in, out));
    conv.follow(add_child(fmt::format("bn{}", number), norm(device, out)));
    layers.prefixes.push_back({fmt::format("conv{}.", number), fmt::format("bn{}.", number)});
    last_.push_back(&conv);
  }
  fc_ = &add_child("fc", std::make_unique<Linear>(device, 2048, classes));
  layers.prefixes.push_back({"fc."});
  finish(std::move(layers));
  if (seed) draw_weights(Rng(*seed));
}

void Xception::draw_weights(Rng rng) {
  walk([&](const std::string&, Module& module) {
    if (auto* conv = dynamic_cast<Conv2d*>(&module)) initialise_for_relu(*conv, rng);
  });
  fc_->initialise(rng);
}

Var Xception::forward(Context& context, const Var& x, const Output&) {
  Var y = x;
  for (Stem& stem : stem_) {
    const Device::ScopeGuard scope(context.device, stem.conv->name());
    y = stem.fused.forward(context, y, kRelu);
  }
  for (XceptionBlock* block : blocks_) y = block->forward(context, y);
  for (SeparableConv* conv : last_) y = conv->forward(context, y, kRelu);
  return fc_->forward(context, average_pool(context, y, 1, 1));
}

}  // namespace frost::classify
