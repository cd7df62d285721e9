#include "models/graph/blocks.h"

#include <numeric>

namespace frost {

std::unique_ptr<ConvNormAct> BlockBuilder::conv(std::int64_t c1, std::int64_t c2, int k, int s, int p, int groups,
                                                bool act) const {
  const int pad = p < 0 ? k / 2 : p;
  const ConvGeometry geometry{
      .kernel_h = k, .kernel_w = k, .stride_h = s, .stride_w = s, .pad_h = pad, .pad_w = pad, .groups = groups};
  return std::make_unique<ConvNormAct>(device, c1, c2, geometry, act ? activation : Activation{ActivationKind::identity});
}

namespace {
std::int64_t scaled(std::int64_t channels, double e) { return static_cast<std::int64_t>(static_cast<double>(channels) * e); }

ConvGeometry pointwise() { return {}; }

std::unique_ptr<Sequential> bottlenecks(const BlockBuilder& b, std::int64_t width, int n, bool shortcut, int groups) {
  auto chain = std::make_unique<Sequential>();
  for (int i = 0; i < n; ++i) chain->append(std::make_unique<Bottleneck>(b, width, width, shortcut, groups, 1.0));
  return chain;
}
}  // namespace

Bottleneck::Bottleneck(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, bool shortcut, int groups, double e)
    : cv1_(add_child("cv1", b.conv(c1, scaled(c2, e)))),
      cv2_(add_child("cv2", b.conv(scaled(c2, e), c2, 3, 1, -1, groups))),
      add_(shortcut && c1 == c2) {}

Var Bottleneck::forward(Context& context, const Var& x, const Place& place) {
  return cv2_.forward(context, cv1_.forward(context, x), add_ ? &x : nullptr, place);
}

C3::C3(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int n, bool shortcut, int groups, double e)
    : C3(b, c1, c2, scaled(c2, e), bottlenecks(b, scaled(c2, e), n, shortcut, groups)) {}

C3::C3(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, std::int64_t hidden, std::unique_ptr<Sequential> m)
    : cv1_(add_child("cv1", b.conv(c1, hidden))),
      cv2_(add_child("cv2", b.conv(c1, hidden))),
      cv3_(add_child("cv3", b.conv(2 * hidden, c2))),
      m_(add_child("m", std::move(m))) {}

Var C3::forward(Context& context, const Var& x, const Place& place) {
  const std::int64_t shallow_width = cv2_.conv.out;
  Concatenation both(context, x.shape(), {cv3_.conv.in - shallow_width, shallow_width});
  const Var deep = m_.forward(context, cv1_.forward(context, x), both.place(0));
  const Var shallow = cv2_.forward(context, x, both.place(1));
  return cv3_.forward(context, both.join({deep, shallow}), place);
}

namespace {
std::unique_ptr<Sequential> ghosts(const BlockBuilder& b, std::int64_t width, int n) {
  auto chain = std::make_unique<Sequential>();
  for (int i = 0; i < n; ++i) chain->append(std::make_unique<GhostBottleneck>(b, width, width));
  return chain;
}
}  // namespace

C3Ghost::C3Ghost(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int n, double e)
    : C3(b, c1, c2, scaled(c2, e), ghosts(b, scaled(c2, e), n)) {}

BottleneckCSP::BottleneckCSP(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int n, bool shortcut, int groups,
                             double e)
    : BottleneckCSP(b, c1, c2, scaled(c2, e), bottlenecks(b, scaled(c2, e), n, shortcut, groups)) {}

BottleneckCSP::BottleneckCSP(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, std::int64_t hidden,
                             std::unique_ptr<Sequential> m)
    : cv1_(add_child("cv1", b.conv(c1, hidden))),
      cv2_(add_child("cv2", std::make_unique<Conv2d>(b.device, c1, hidden, pointwise(), false))),
      cv3_(add_child("cv3", std::make_unique<Conv2d>(b.device, hidden, hidden, pointwise(), false))),
      cv4_(add_child("cv4", b.conv(2 * hidden, c2))),
      bn_(add_child("bn", std::make_unique<BatchNorm2d>(b.device, 2 * hidden))),
      m_(add_child("m", std::move(m))),
      activation_(b.activation) {}

Var BottleneckCSP::forward(Context& context, const Var& x, const Place& place) {
  Concatenation both(context, x.shape(), {cv3_.out, cv2_.out});
  const Var deep = cv3_.forward(context, m_.forward(context, cv1_.forward(context, x)), both.place(0));
  const Var shallow = cv2_.forward(context, x, both.place(1));
  return cv4_.forward(context, bn_.apply(context, both.join({deep, shallow}), activation_), place);
}

SPP::SPP(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, const std::vector<int>& kernels)
    : cv1_(add_child("cv1", b.conv(c1, c1 / 2))),
      cv2_(add_child("cv2", b.conv(c1 / 2 * static_cast<std::int64_t>(kernels.size() + 1), c2))) {
  auto list = std::make_unique<Sequential>();
  for (const int k : kernels)
    pools_.push_back(static_cast<MaxPool2d*>(&list->append(std::make_unique<MaxPool2d>(PoolGeometry{k, 1, k / 2}))));
  add_child("m", std::move(list));
}

Var SPP::forward(Context& context, const Var& x, const Place& place) {
  Concatenation all(context, x.shape(), std::vector<std::int64_t>(pools_.size() + 1, cv1_.conv.out));
  std::vector<Var> parts{cv1_.forward(context, x, all.place(0))};
  for (std::size_t k = 0; k < pools_.size(); ++k) parts.push_back(pools_[k]->forward(context, parts[0], all.place(k + 1)));
  return cv2_.forward(context, all.join(parts), place);
}

SPPF::SPPF(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int k)
    : cv1_(add_child("cv1", b.conv(c1, c1 / 2))),
      cv2_(add_child("cv2", b.conv(c1 / 2 * 4, c2))),
      m_(add_child("m", std::make_unique<MaxPool2d>(PoolGeometry{k, 1, k / 2}))) {}

Var SPPF::forward(Context& context, const Var& x, const Place& place) {
  Concatenation all(context, x.shape(), std::vector<std::int64_t>(4, cv1_.conv.out));
  std::vector<Var> parts{cv1_.forward(context, x, all.place(0))};
  for (std::size_t i = 1; i < 4; ++i) parts.push_back(m_.forward(context, parts.back(), all.place(i)));
  return cv2_.forward(context, all.join(parts), place);
}

Focus::Focus(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int k, int s, int p, int groups)
    : conv_(add_child("conv", b.conv(4 * c1, c2, k, s, p, groups))) {}

Var Focus::forward(Context& context, const Var& x, const Place& place) {
  return conv_.forward(context, space_to_depth(context, x), place);
}

GhostConv::GhostConv(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int k, int s, int groups, bool act)
    : cv1_(add_child("cv1", b.conv(c1, c2 / 2, k, s, -1, groups, act))),
      cv2_(add_child("cv2", b.conv(c2 / 2, c2 / 2, 5, 1, -1, static_cast<int>(c2 / 2), act))) {}

Var GhostConv::forward(Context& context, const Var& x, const Place&) {
  const Var primary = cv1_.forward(context, x);
  return concat(context, {primary, cv2_.forward(context, primary)});
}

GhostBottleneck::GhostBottleneck(const BlockBuilder& b, std::int64_t c1, std::int64_t c2, int k, int s)
    : conv_(add_child("conv", std::make_unique<Sequential>())), shortcut_(nullptr) {
  const std::int64_t hidden = c2 / 2;
  const auto depthwise = [&](std::int64_t from, std::int64_t to) {
    return b.conv(from, to, k, s, -1, static_cast<int>(std::gcd(from, to)), false);
  };
  conv_.append(std::make_unique<GhostConv>(b, c1, hidden));
  if (s == 2)
    conv_.append(depthwise(hidden, hidden));
  else
    conv_.append(std::make_unique<Identity>());
  conv_.append(std::make_unique<GhostConv>(b, hidden, c2, 1, 1, 1, false));
  if (s == 2) {
    auto shortcut = std::make_unique<Sequential>();
    shortcut->append(depthwise(c1, c1));
    shortcut->append(b.conv(c1, c2, 1, 1, -1, 1, false));
    shortcut_ = &add_child("shortcut", std::move(shortcut));
  } else {
    add_child("shortcut", std::make_unique<Identity>());
  }
}

Var GhostBottleneck::forward(Context& context, const Var& x, const Place& place) {
  const Var y = conv_.forward(context, x);
  return add(context, y, shortcut_ ? shortcut_->forward(context, x) : x, place);
}

}  // namespace frost
