#include "models/graph/blocks.h"

namespace frost {

void GraphBudget::spend_module(const std::string& where) {
  FROST_CHECK(++modules_ <= kModules, where, ": more than ", kModules, " modules up to here; frost builds no larger graph");
}

void GraphBudget::spend_parameters(const std::string& where, double count) {
  parameters_ += count;
  FROST_CHECK(parameters_ <= static_cast<double>(kParameters), where, ": more than ", kParameters,
              " parameters up to here; frost builds no larger graph");
}

ConvGeometry ConvOptions::geometry() const {
  const auto half = [](int k, int d) { return (d * (k - 1) + 1) / 2; };
  const Pair pad = padding ? *padding : Pair(half(kernel.h, dilation.h), half(kernel.w, dilation.w));
  return {.kernel_h = kernel.h,
          .kernel_w = kernel.w,
          .stride_h = stride.h,
          .stride_w = stride.w,
          .pad_h = pad.h,
          .pad_w = pad.w,
          .dilation_h = dilation.h,
          .dilation_w = dilation.w,
          .groups = static_cast<int>(groups)};
}

std::int64_t BlockBuilder::checked(std::int64_t channels) const {
  FROST_CHECK(channels >= 1 && channels <= GraphBudget::kChannels, where, ": ", channels, " channels, expected 1 to ",
              GraphBudget::kChannels);
  return channels;
}

std::int64_t BlockBuilder::hidden(std::int64_t c2, double e) const {
  return checked(static_cast<std::int64_t>(static_cast<double>(checked(c2)) * e));  // e is at most 100
}

void BlockBuilder::spend_conv(std::int64_t c1, std::int64_t c2, const ConvGeometry& g) const {
  checked(c1), checked(c2);
  FROST_CHECK(c1 % g.groups == 0 && c2 % g.groups == 0, where, ": ", c1, " -> ", c2, " channels cannot be cut into ",
              g.groups, " groups");
  budget.spend_module(where);
  budget.spend_parameters(where, static_cast<double>(c1 / g.groups) * static_cast<double>(c2) * g.kernel_h * g.kernel_w);
}

// YOLOv5's constants of every batch norm (docs/spec/model.md section 3).
constexpr float kNormEps = 1e-3f, kNormMomentum = 0.03f;

void BlockBuilder::spend_norm(std::int64_t channels) const {
  budget.spend_parameters(where, 4.0 * static_cast<double>(checked(channels)));  // two trained, two statistics
}

std::unique_ptr<ConvNormAct> BlockBuilder::conv(std::int64_t c1, std::int64_t c2, const ConvOptions& options) const {
  const ConvGeometry geometry = options.geometry();
  spend_conv(c1, c2, geometry);
  spend_norm(c2);
  auto block = std::make_unique<ConvNormAct>(device, c1, c2, geometry, options.activation.value_or(activation),
                                             ConvNormSettings{kNormEps, kNormMomentum});
  block->own_activation = options.activation.has_value();
  return block;
}

std::unique_ptr<Conv2d> BlockBuilder::plain_conv(std::int64_t c1, std::int64_t c2, const ConvGeometry& geometry,
                                                 bool bias) const {
  spend_conv(c1, c2, geometry);
  return std::make_unique<Conv2d>(device, c1, c2, geometry, bias);
}

std::unique_ptr<BatchNorm2d> BlockBuilder::norm(std::int64_t channels) const {
  spend_norm(channels);
  return std::make_unique<BatchNorm2d>(device, channels, kNormEps, kNormMomentum);
}

namespace {
constexpr Activation kNone{ActivationKind::identity};

std::unique_ptr<Sequential> bottlenecks(const BlockBuilder& b, std::int64_t width, int n, bool shortcut, int groups) {
  auto chain = std::make_unique<Sequential>();
  for (int i = 0; i < n; ++i) chain->append(std::make_unique<Bottleneck>(b, width, width, shortcut, groups, 1.0));
  return chain;
}
}  // namespace

Bottleneck::Bottleneck(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, bool shortcut, int groups, double e)
    : add(shortcut && c1 == c2),
      cv1_(add_child("cv1", b.conv(c1, b.hidden(c2, e)))),
      cv2_(add_child("cv2", b.conv(b.hidden(c2, e), c2, {.kernel = 3, .groups = groups}))) {}

Var Bottleneck::forward(Context& context, const Var& x, const Output& output) {
  return cv2_.forward(context, cv1_.forward(context, x), add ? &x : nullptr, output);
}

C3::C3(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int n, bool shortcut, int groups, double e)
    : C3(b, c1, c2, b.hidden(c2, e), bottlenecks(b, b.hidden(c2, e), n, shortcut, groups)) {}

C3::C3(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, std::int64_t hidden, std::unique_ptr<Sequential> m)
    : cv1_(add_child("cv1", b.conv(c1, hidden))),
      cv2_(add_child("cv2", b.conv(c1, hidden))),
      cv3_(add_child("cv3", b.conv(2 * hidden, c2))),
      m_(add_child("m", std::move(m))) {}

Var C3::forward(Context& context, const Var& x, const Output& output) {
  const std::int64_t shallow_width = cv2_.conv.out;
  Concatenation both(context, x.shape(), {cv3_.conv.in - shallow_width, shallow_width});
  const Var deep = m_.forward(context, cv1_.forward(context, x), both.output(0));
  const Var shallow = cv2_.forward(context, x, both.output(1));
  return cv3_.forward(context, both.join({deep, shallow}), output);
}

namespace {
std::unique_ptr<Sequential> ghosts(const BlockBuilder& b, std::int64_t width, int n) {
  auto chain = std::make_unique<Sequential>();
  for (int i = 0; i < n; ++i) chain->append(std::make_unique<GhostBottleneck>(b, width, width, 3, 1));
  return chain;
}
}  // namespace

C3Ghost::C3Ghost(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int n, double e)
    : C3(b, c1, c2, b.hidden(c2, e), ghosts(b, b.hidden(c2, e), n)) {}

BottleneckCSP::BottleneckCSP(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int n, bool shortcut, int groups,
                             double e)
    : BottleneckCSP(b, c1, c2, b.hidden(c2, e), bottlenecks(b, b.hidden(c2, e), n, shortcut, groups)) {}

BottleneckCSP::BottleneckCSP(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, std::int64_t hidden,
                             std::unique_ptr<Sequential> m)
    : activation(b.csp_activation),
      cv1_(add_child("cv1", b.conv(c1, hidden))),
      cv2_(add_child("cv2", b.plain_conv(c1, hidden, {}, false))),
      cv3_(add_child("cv3", b.plain_conv(hidden, hidden, {}, false))),
      cv4_(add_child("cv4", b.conv(2 * hidden, c2))),
      bn_(add_child("bn", b.norm(2 * hidden))),
      m_(add_child("m", std::move(m))) {}

Var BottleneckCSP::forward(Context& context, const Var& x, const Output& output) {
  Concatenation both(context, x.shape(), {cv3_.out, cv2_.out});
  const Var deep = cv3_.forward(context, m_.forward(context, cv1_.forward(context, x)), both.output(0));
  const Var shallow = cv2_.forward(context, x, both.output(1));
  return cv4_.forward(context, bn_.apply(context, both.join({deep, shallow}), activation), output);
}

SPP::SPP(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, const std::vector<int>& kernels)
    : cv1_(add_child("cv1", b.conv(c1, c1 / 2))),
      cv2_(add_child("cv2", b.conv(c1 / 2 * static_cast<std::int64_t>(kernels.size() + 1), c2))) {
  auto list = std::make_unique<Sequential>();
  for (const int k : kernels)
    pools_.push_back(static_cast<MaxPool2d*>(&list->append(std::make_unique<MaxPool2d>(PoolGeometry{k, 1, k / 2}))));
  add_child("m", std::move(list));
}

Var SPP::forward(Context& context, const Var& x, const Output& output) {
  Concatenation all(context, x.shape(), std::vector<std::int64_t>(pools_.size() + 1, cv1_.conv.out));
  std::vector<Var> parts{cv1_.forward(context, x, all.output(0))};
  for (std::size_t k = 0; k < pools_.size(); ++k) parts.push_back(pools_[k]->forward(context, parts[0], all.output(k + 1)));
  return cv2_.forward(context, all.join(parts), output);
}

SPPF::SPPF(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int k)
    : cv1_(add_child("cv1", b.conv(c1, c1 / 2))),
      cv2_(add_child("cv2", b.conv(c1 / 2 * 4, c2))),
      m_(add_child("m", std::make_unique<MaxPool2d>(PoolGeometry{k, 1, k / 2}))) {}

Var SPPF::forward(Context& context, const Var& x, const Output& output) {
  Concatenation all(context, x.shape(), std::vector<std::int64_t>(4, cv1_.conv.out));
  std::vector<Var> parts{cv1_.forward(context, x, all.output(0))};
  for (std::size_t i = 1; i < 4; ++i) parts.push_back(m_.forward(context, parts.back(), all.output(i)));
  return cv2_.forward(context, all.join(parts), output);
}

Focus::Focus(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, const ConvOptions& options)
    : conv_(add_child("conv", b.conv(4 * c1, c2, options))) {}

Var Focus::forward(Context& context, const Var& x, const Output& output) {
  return conv_.forward(context, space_to_depth(context, x), output);
}

GhostConv::GhostConv(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, const ConvOptions& options)
    : cv1_(add_child("cv1", b.conv(c1, c2 / 2, options))),
      cv2_(add_child("cv2", b.conv(c2 / 2, c2 / 2, {.kernel = 5, .groups = c2 / 2, .activation = options.activation}))) {}

Var GhostConv::forward(Context& context, const Var& x, const Output&) {
  const Var primary = cv1_.forward(context, x);
  return concat(context, {primary, cv2_.forward(context, primary)});
}

GhostBottleneck::GhostBottleneck(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, Pair k, int s)
    : conv_(add_child("conv", std::make_unique<Sequential>())), shortcut_(nullptr) {
  const std::int64_t hidden = b.checked(c2 / 2);
  const auto depthwise = [&](std::int64_t channels) {
    return b.conv(channels, channels, {.kernel = k, .stride = s, .groups = channels, .activation = kNone});
  };
  conv_.append(std::make_unique<GhostConv>(b, c1, hidden, ConvOptions{}));
  if (s == 2)
    conv_.append(depthwise(hidden));
  else
    conv_.append(std::make_unique<Identity>());
  conv_.append(std::make_unique<GhostConv>(b, hidden, c2, ConvOptions{.activation = kNone}));
  if (s == 2) {
    auto shortcut = std::make_unique<Sequential>();
    shortcut->append(depthwise(c1));
    shortcut->append(b.conv(c1, c2, {.activation = kNone}));
    shortcut_ = &add_child("shortcut", std::move(shortcut));
  } else {
    add_child("shortcut", std::make_unique<Identity>());
  }
}

Var GhostBottleneck::forward(Context& context, const Var& x, const Output& output) {
  const Var y = conv_.forward(context, x);
  return add(context, y, shortcut_ ? shortcut_->forward(context, x) : x, output);
}

}  // namespace frost
