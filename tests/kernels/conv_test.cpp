#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/conv_engine.h"
#include "tests/golden/golden.h"
#include "tests/kernels/device.h"

using namespace frost;

namespace {

Backend& backend() {
  static const auto instance = frost::testing::make_test_backend();
  return *instance;
}

std::vector<float> random_values(const std::string& name, std::int64_t count) {
  const golden::Fill fill(name);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(2 * fill.u(i) - 1);
  return out;
}

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
float to_f32(std::uint16_t value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }

/// An activation tensor in f32 or bf16, packed or as a channel slice of a wider one. What surrounds it is filled with a
/// guard value, and guards_hold() says whether it still is.
class Buffer {
 public:
  Buffer(Shape shape, DType type = DType::f32, std::int64_t left = 0, std::int64_t right = 0)
      : shape_(shape),
        type_(type),
        left_(left),
        pitch_(left + shape.c + right),
        memory_(static_cast<std::size_t>((shape.pixels() * pitch_ + 2 * kGuard)), kGuardValue) {
    if (type == DType::bf16) memory16_.assign(memory_.size(), to_bf16(kGuardValue));
  }
  Buffer(Shape shape, const std::vector<float>& values, DType type = DType::f32, std::int64_t left = 0,
         std::int64_t right = 0)
      : Buffer(shape, type, left, right) {
    for (std::int64_t p = 0; p < shape.pixels(); ++p)
      for (std::int64_t c = 0; c < shape.c; ++c) {
        const float value = values.at(static_cast<std::size_t>(p * shape.c + c));
        if (type == DType::bf16)
          memory16_[place(p, c)] = to_bf16(value);
        else
          memory_[place(p, c)] = value;
      }
  }
  View view() {
    if (type_ == DType::bf16) return {&memory16_[place(0, 0)], shape_, type_, pitch_};
    return {&memory_[place(0, 0)], shape_, type_, pitch_};
  }
  std::vector<float> values() const {
    std::vector<float> out;
    for (std::int64_t p = 0; p < shape_.pixels(); ++p)
      for (std::int64_t c = 0; c < shape_.c; ++c) out.push_back(at(place(p, c)));
    return out;
  }
  bool guards_hold() const {
    std::vector<bool> inside(memory_.size(), false);
    for (std::int64_t p = 0; p < shape_.pixels(); ++p)
      for (std::int64_t c = 0; c < shape_.c; ++c) inside[place(p, c)] = true;
    for (std::size_t i = 0; i < inside.size(); ++i)
      if (!inside[i] && at(i) != kGuardValue) return false;
    return true;
  }

 private:
  static constexpr std::int64_t kGuard = 64;
  static constexpr float kGuardValue = -1024.f;  // exact in bf16
  std::size_t place(std::int64_t pixel, std::int64_t channel) const {
    return static_cast<std::size_t>(kGuard + pixel * pitch_ + left_ + channel);
  }
  float at(std::size_t i) const { return type_ == DType::bf16 ? to_f32(memory16_[i]) : memory_[i]; }
  Shape shape_;
  DType type_;
  std::int64_t left_, pitch_;
  std::vector<float> memory_;
  std::vector<std::uint16_t> memory16_;
};

/// One convolution's operands in frost's order; every TEST_CASE asks it one question.
struct ConvCase {
  ConvGeometry geometry;
  Shape x_shape;
  std::int64_t out_channels;
  std::vector<float> x, w, b, dy;  // b may be empty
  Activation activation;

  Shape y_shape() const { return geometry.output(x_shape, out_channels); }
  static ConvCase random(const std::string& name, ConvGeometry g, Shape x, std::int64_t out_channels, bool bias) {
    ConvCase t{.geometry = g,
               .x_shape = x,
               .out_channels = out_channels,
               .x = random_values(name + ".x", x.elements()),
               .w = random_values(name + ".w", out_channels * g.kernel_h * g.kernel_w * x.c / g.groups),
               .b = {},
               .dy = {},
               .activation = {}};
    if (bias) t.b = random_values(name + ".b", out_channels);
    t.dy = random_values(name + ".dy", t.y_shape().elements());
    return t;
  }

  void forward(ConstView from, View y, std::uint64_t version = 0) const {
    backend().conv_forward({.geometry = geometry,
                            .x = from,
                            .weight = {w.data(), version},
                            .bias = b.empty() ? nullptr : b.data(),
                            .activation = activation,
                            .y = y});
  }
  std::vector<float> forward(DType type = DType::f32) const {
    Buffer from(x_shape, x, type), y(y_shape());
    forward(from.view(), y.view());
    CHECK(y.guards_hold());
    return y.values();
  }
  std::vector<float> backward_data(DType type = DType::f32) const {
    Buffer from(y_shape(), dy, type), dx(x_shape, type);
    backend().conv_backward_data({.geometry = geometry, .dy = from.view(), .weight = {w.data(), 0}, .dx = dx.view()});
    CHECK(dx.guards_hold());
    return dx.values();
  }
  struct WeightGrad {
    std::vector<float> dw, db;
  };
  WeightGrad backward_weight(DType type = DType::f32) const {
    Buffer from(x_shape, x, type), from_dy(y_shape(), dy, type);
    WeightGrad grad{std::vector<float>(w.size(), 7.f), std::vector<float>(b.size(), 7.f)};
    backend().conv_backward_weight({.geometry = geometry,
                                    .x = from.view(),
                                    .dy = from_dy.view(),
                                    .dweight = grad.dw.data(),
                                    .dbias = b.empty() ? nullptr : grad.db.data(),
                                    .accumulate = false});
    return grad;
  }

  /// The definition, summed in double.
  template <class Visit>
  void visit(Visit&& each) const {  // each(index of x, of w, of y)
    const Shape ys = y_shape();
    const auto& g = geometry;
    const std::int64_t in = x_shape.c / g.groups, out = out_channels / g.groups;
    for (std::int64_t n = 0; n < ys.n; ++n)
      for (std::int64_t oy = 0; oy < ys.h; ++oy)
        for (std::int64_t ox = 0; ox < ys.w; ++ox)
          for (int ky = 0; ky < g.kernel_h; ++ky)
            for (int kx = 0; kx < g.kernel_w; ++kx) {
              const std::int64_t iy = oy * g.stride_h - g.pad_h + ky * g.dilation_h;
              const std::int64_t ix = ox * g.stride_w - g.pad_w + kx * g.dilation_w;
              if (iy < 0 || ix < 0 || iy >= x_shape.h || ix >= x_shape.w) continue;
              for (std::int64_t o = 0; o < out_channels; ++o)
                for (std::int64_t i = 0; i < in; ++i)
                  each(((n * x_shape.h + iy) * x_shape.w + ix) * x_shape.c + o / out * in + i,
                       ((o * g.kernel_h + ky) * g.kernel_w + kx) * in + i, ((n * ys.h + oy) * ys.w + ox) * ys.c + o);
            }
  }
  std::vector<double> plain_forward() const {
    std::vector<double> y(static_cast<std::size_t>(y_shape().elements()));
    for (std::size_t i = 0; i < y.size() && !b.empty(); ++i) y[i] = b[i % b.size()];
    visit([&](auto xi, auto wi, auto yi) { y.at(yi) += double(x.at(xi)) * w.at(wi); });
    return y;
  }
  std::vector<double> plain_dx() const {
    std::vector<double> dx(x.size());
    visit([&](auto xi, auto wi, auto yi) { dx.at(xi) += double(dy.at(yi)) * w.at(wi); });
    return dx;
  }
  std::vector<double> plain_dw() const {
    std::vector<double> dw(w.size());
    visit([&](auto xi, auto wi, auto yi) { dw.at(wi) += double(dy.at(yi)) * x.at(xi); });
    return dw;
  }
  std::vector<double> plain_db() const {
    std::vector<double> db(b.size());
    for (std::size_t i = 0; i < dy.size() && !b.empty(); ++i) db[i % db.size()] += dy[i];
    return db;
  }
};

/// The shapes that trip kernels: odd channels, sizes that leave a rest, strides, groups, dilation, 1x1, a single pixel.
std::vector<std::pair<std::string, ConvCase>> odd_cases() {
  std::vector<std::pair<std::string, ConvCase>> cases;
  const auto add = [&](const std::string& name, ConvGeometry g, Shape x, std::int64_t out, bool bias = false) {
    cases.emplace_back(name, ConvCase::random(name, g, x, out, bias));
  };
  add("stem", {.kernel_h = 6, .kernel_w = 6, .stride_h = 2, .stride_w = 2, .pad_h = 2, .pad_w = 2}, {2, 34, 38, 3}, 16);
  add("stem_odd", {.kernel_h = 6, .kernel_w = 6, .stride_h = 2, .stride_w = 2, .pad_h = 2, .pad_w = 2}, {1, 33, 35, 3}, 21,
      true);
  add("stem7", {.kernel_h = 7, .kernel_w = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3}, {1, 29, 32, 3}, 64);
  add("3x3", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1}, {2, 11, 9, 32}, 48, true);
  add("3x3_s2", {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1}, {2, 13, 10, 16}, 32);
  add("3x3_odd", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1}, {1, 7, 9, 33}, 19, true);
  add("1x1", {}, {2, 7, 9, 64}, 32, true);
  add("head", {}, {2, 5, 7, 64}, 255, true);
  add("head21", {}, {1, 6, 6, 24}, 21, true);
  add("1x1_odd", {}, {3, 5, 5, 13}, 7);
  add("1x1_s2", {.stride_h = 2, .stride_w = 2}, {1, 9, 8, 64}, 128);
  add("one_pixel", {}, {1, 1, 1, 9}, 24, true);
  add("rect", {.kernel_h = 1, .kernel_w = 7, .pad_h = 0, .pad_w = 3}, {1, 8, 12, 24}, 16);
  add("column", {.kernel_h = 7, .kernel_w = 1, .pad_h = 3, .pad_w = 0}, {2, 8, 5, 16}, 24, true);
  add("rect_stride", {.kernel_h = 3, .kernel_w = 5, .stride_h = 2, .stride_w = 1, .pad_h = 1, .pad_w = 2}, {1, 9, 11, 8}, 12,
      true);
  add("dilated", {.kernel_h = 3, .kernel_w = 3, .pad_h = 3, .pad_w = 3, .dilation_h = 3, .dilation_w = 3}, {1, 12, 11, 16},
      16);
  add("depthwise", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1, .groups = 32}, {2, 9, 10, 32}, 32, true);
  add("depthwise5_s2", {.kernel_h = 5, .kernel_w = 5, .stride_h = 2, .stride_w = 2, .pad_h = 2, .pad_w = 2, .groups = 24},
      {1, 11, 9, 24}, 24);
  add("groups_of_4", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1, .groups = 8}, {1, 8, 7, 32}, 32);
  add("groups_of_16", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1, .groups = 2}, {1, 8, 7, 32}, 48, true);
  return cases;
}

constexpr double kF32 = 1e-5;  // relative to the largest value: sums of up to 10^4 f32 products

}  // namespace

TEST_CASE("conv: golden ops_conv2d") {
  const auto file = golden::load("ops_conv2d");
  int cases = 0;
  for (const auto& [key, value] : file.facts) {
    if (!key.ends_with(".attributes")) continue;
    const std::string name = key.substr(0, key.find('.'));
    CAPTURE(name);
    const auto facts = nlohmann::json::parse(value);
    const auto pair = [&](const char* what) {
      const auto& v = facts.at(what);
      return v.is_array() ? std::pair<int, int>(v[0], v[1]) : std::pair<int, int>(v, v);
    };
    ConvGeometry g;
    std::tie(g.kernel_h, g.kernel_w) = pair("kernel");
    std::tie(g.stride_h, g.stride_w) = pair("stride");
    std::tie(g.pad_h, g.pad_w) = pair("padding");
    std::tie(g.dilation_h, g.dilation_w) = pair("dilation");
    g.groups = facts.at("groups");
    const auto tensor = [&](const char* what) {
      const auto& t = file.at(name + "." + what);
      return golden::nhwc(t.f32(), t.shape[0], t.shape[1], t.shape[2], t.shape[3]);
    };
    const auto& xs = file.at(name + ".x").shape;
    ConvCase t{.geometry = g,
               .x_shape = {xs[0], xs[2], xs[3], xs[1]},
               .out_channels = file.at(name + ".w").shape[0],
               .x = tensor("x"),
               .w = tensor("w"),
               .b = {},
               .dy = tensor("gy"),
               .activation = {}};
    if (file.has(name + ".b")) t.b = file.at(name + ".b").f32();
    CHECK(golden::relative_error(t.forward(), tensor("y")) < kF32);
    CHECK(golden::relative_error(t.backward_data(), tensor("gx")) < kF32);
    const auto grad = t.backward_weight();
    CHECK(golden::relative_error(grad.dw, tensor("gw")) < kF32);
    if (!t.b.empty()) CHECK(golden::relative_error(grad.db, file.at(name + ".gb").f32()) < kF32);
    ++cases;
  }
  CHECK(cases >= 15);
}

TEST_CASE("conv: golden ops_conv_transpose2d, whose forward is a convolution's backward_data") {
  const auto file = golden::load("ops_conv_transpose2d");
  int cases = 0;
  for (const auto& [key, value] : file.facts) {
    if (!key.ends_with(".attributes")) continue;
    const std::string name = key.substr(0, key.find('.'));
    CAPTURE(name);
    const auto facts = nlohmann::json::parse(value);
    const auto tensor = [&](const char* what) {
      const auto& t = file.at(name + "." + what);
      return golden::nhwc(t.f32(), t.shape[0], t.shape[1], t.shape[2], t.shape[3]);
    };
    const auto &xs = file.at(name + ".x").shape, &ys = file.at(name + ".y").shape;
    const int k = facts.at("kernel")[0], s = facts.at("stride");
    // The reverse convolution reads y and gives x: its filters are the stored (I, O / groups, kh, kw) as they are.
    ConvCase t{.geometry = {.kernel_h = k, .kernel_w = k, .stride_h = s, .stride_w = s, .groups = facts.at("groups")},
               .x_shape = {ys[0], ys[2], ys[3], ys[1]},
               .out_channels = xs[1],
               .x = tensor("gy"),
               .w = tensor("w"),
               .b = {},
               .dy = tensor("x"),
               .activation = {}};
    auto y = t.backward_data();
    if (file.has(name + ".b")) {
      const auto b = file.at(name + ".b").f32();
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += b[i % b.size()];
    }
    CHECK(golden::relative_error(y, tensor("y")) < kF32);
    CHECK(golden::relative_error(t.forward(), tensor("gx")) < kF32);
    CHECK(golden::relative_error(t.backward_weight().dw, tensor("gw")) < kF32);
    ++cases;
  }
  CHECK(cases == 3);
}

TEST_CASE("conv: odd shapes equal the definition") {
  for (const auto& [name, t] : odd_cases()) {
    CAPTURE(name);
    CHECK(golden::relative_error(t.forward(), t.plain_forward()) < kF32);
    CHECK(golden::relative_error(t.backward_data(), t.plain_dx()) < kF32);
    const auto grad = t.backward_weight();
    CHECK(golden::relative_error(grad.dw, t.plain_dw()) < kF32);
    if (!t.b.empty()) CHECK(golden::relative_error(grad.db, t.plain_db()) < kF32);
  }
}

TEST_CASE("conv: bf16 operands") {
  if (!backend().supports(DType::bf16)) {
    MESSAGE("SKIPPED: this CPU has no bf16");
    return;
  }
  for (auto [name, t] : odd_cases()) {
    CAPTURE(name);
    for (auto* values : {&t.x, &t.w, &t.dy})  // what bf16 cannot hold is not the kernel's fault
      for (float& v : *values) v = to_f32(to_bf16(v));
    // Products of bf16 are exact in f32, so only the sums round, and a bf16 result: half of 2^-7.
    // Other devices have y and dw in bf16 before they come in f32, and where they add the bias, y is rounded twice.
    constexpr double kRounded = 1.0 / 256 + kF32;
    const bool cpu = frost::testing::on_cpu();
    CHECK(golden::relative_error(t.forward(DType::bf16), t.plain_forward()) < (cpu ? kF32 : kRounded));  // y in f32
    Buffer from(t.x_shape, t.x, DType::bf16), y(t.y_shape(), DType::bf16);
    t.forward(from.view(), y.view());
    CHECK(y.guards_hold());
    CHECK(golden::relative_error(y.values(), t.plain_forward()) < (cpu ? 1 : 2) * kRounded);
    CHECK(golden::relative_error(t.backward_data(DType::bf16), t.plain_dx()) < kRounded);
    const auto grad = t.backward_weight(DType::bf16);
    CHECK(golden::relative_error(grad.dw, t.plain_dw()) < (cpu ? kF32 : kRounded));
    if (!t.b.empty()) CHECK(golden::relative_error(grad.db, t.plain_db()) < kF32);
  }
}

TEST_CASE("conv: a channel slice gives the packed result and its surroundings stay") {
  // The same bits on the CPU. Other devices may take another engine, or round to 16 bits once more on the way to a slice.
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b, DType type) {
    if (frost::testing::on_cpu()) return a == b;
    return golden::relative_error(a, b) < (type == DType::f32 ? kF32 : 2.0 / 256);
  };
  for (const DType type : {DType::f32, DType::bf16}) {
    if (!backend().supports(type)) continue;
    for (const auto& [name, t] : odd_cases()) {
      CAPTURE(name);
      CAPTURE(name_of(type));
      Buffer x(t.x_shape, t.x, type), y(t.y_shape(), type), dy(t.y_shape(), t.dy, type);
      Buffer wide_x(t.x_shape, t.x, type, 16, 3), wide_y(t.y_shape(), type, 5, 16), wide_dy(t.y_shape(), t.dy, type, 16, 0);
      t.forward(x.view(), y.view());
      t.forward(wide_x.view(), wide_y.view());
      CHECK(wide_y.guards_hold());
      CHECK(same(wide_y.values(), y.values(), type));
      Buffer wide_dx(t.x_shape, type, 16, 16);
      backend().conv_backward_data(
          {.geometry = t.geometry, .dy = wide_dy.view(), .weight = {t.w.data(), 0}, .dx = wide_dx.view()});
      CHECK(wide_dx.guards_hold());
      CHECK(same(wide_dx.values(), t.backward_data(type), type));
      const auto grad = t.backward_weight(type);
      std::vector<float> dw(t.w.size()), db(t.b.size());
      backend().conv_backward_weight({.geometry = t.geometry,
                                      .x = wide_x.view(),
                                      .dy = wide_dy.view(),
                                      .dweight = dw.data(),
                                      .dbias = db.empty() ? nullptr : db.data(),
                                      .accumulate = false});
      CHECK(same(dw, grad.dw, type));
      if (!db.empty()) CHECK(same(db, grad.db, type));
    }
  }
}

TEST_CASE("conv: accumulate adds to dweight and dbias") {
  for (const auto& [name, t] : odd_cases()) {
    CAPTURE(name);
    const auto grad = t.backward_weight();
    Buffer x(t.x_shape, t.x), dy(t.y_shape(), t.dy);
    const auto before_w = random_values(name + ".before", static_cast<std::int64_t>(t.w.size()));
    const auto before_b = random_values(name + ".before_b", static_cast<std::int64_t>(t.b.size()));
    auto dw = before_w, db = before_b;
    backend().conv_backward_weight({.geometry = t.geometry,
                                    .x = x.view(),
                                    .dy = dy.view(),
                                    .dweight = dw.data(),
                                    .dbias = db.empty() ? nullptr : db.data(),
                                    .accumulate = true});
    for (std::size_t i = 0; i < dw.size(); ++i) dw[i] -= before_w[i];
    for (std::size_t i = 0; i < db.size(); ++i) db[i] -= before_b[i];
    CHECK(golden::relative_error(dw, grad.dw) < kF32);
    CHECK(golden::relative_error(db, grad.db) < kF32);
  }
}

TEST_CASE("conv: fused activations") {
  const auto formula = [](Activation a, double z) {
    switch (a.kind) {
      case ActivationKind::identity:
        return z;
      case ActivationKind::silu:
        return z / (1 + std::exp(-z));
      case ActivationKind::relu:
        return std::max(z, 0.0);
      case ActivationKind::leaky_relu:
        return z > 0 ? z : a.slope * z;
      case ActivationKind::hardswish:
        return z * std::min(std::max(z + 3, 0.0), 6.0) / 6;
      case ActivationKind::sigmoid:
        return 1 / (1 + std::exp(-z));
      case ActivationKind::mish:
        return z * std::tanh(std::log1p(std::exp(z)));
      case ActivationKind::relu6:
        return std::min(std::max(z, 0.0), 6.0);
      case ActivationKind::hardsigmoid:
        return std::min(std::max(z + 3, 0.0), 6.0) / 6;
    }
    return 0.0;
  };
  for (const auto kind : {ActivationKind::silu, ActivationKind::relu, ActivationKind::leaky_relu, ActivationKind::hardswish,
                          ActivationKind::sigmoid, ActivationKind::mish, ActivationKind::relu6, ActivationKind::hardsigmoid})
    for (auto [name, t] : odd_cases()) {
      CAPTURE(name);
      CAPTURE(static_cast<int>(kind));
      t.activation = {kind, 0.2f};
      auto expected = t.plain_forward();
      for (double& z : expected) z = formula(t.activation, z);
      CHECK(golden::relative_error(t.forward(), expected) < 2e-5);  // oneDNN's exp is a polynomial
    }
}

TEST_CASE("conv: backward is the derivative of forward") {
  // Forward is linear in x and in w: a central difference has no truncation error, only f32 rounding over the step.
  auto t = ConvCase::random("fd", {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1},
                            {2, 5, 7, 4}, 6, true);
  const auto loss = [&] {
    const auto y = t.forward();
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += double(y[i]) * t.dy[i];
    return sum;
  };
  const auto difference = [&](std::vector<float>& values) {
    std::vector<double> out;
    for (float& v : values) {
      const float kept = v;
      v = kept + 0.5f;
      const double up = loss(), high = v;
      v = kept - 0.5f;
      out.push_back((up - loss()) / (high - v));
      v = kept;
    }
    return out;
  };
  const auto grad = t.backward_weight();
  CHECK(golden::relative_error(t.backward_data(), difference(t.x)) < 1e-5);
  CHECK(golden::relative_error(grad.dw, difference(t.w)) < 1e-5);
  CHECK(golden::relative_error(grad.db, difference(t.b)) < 1e-5);
}

TEST_CASE("conv: a version names the filters' contents") {
  if (!frost::testing::on_cpu()) {
    MESSAGE("SKIPPED: filters are kept by their address, which the mirror changes from call to call");
    return;
  }
  auto t = ConvCase::random("version", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1}, {1, 6, 7, 16}, 32, false);
  const auto run = [&](std::uint64_t version) {
    Buffer x(t.x_shape, t.x), y(t.y_shape());
    t.forward(x.view(), y.view(), version);
    return y.values();
  };
  const auto first = run(41);
  t.w[0] += 1;
  CHECK(run(41) == first);  // the promise was that nothing changed
  const auto second = run(42);
  CHECK(second != first);
  CHECK(golden::relative_error(second, t.plain_forward()) < kF32);
  t.w[1] += 1;
  CHECK(golden::relative_error(run(0), t.plain_forward()) < kF32);
  t.w[2] += 1;
  CHECK(golden::relative_error(run(0), t.plain_forward()) < kF32);
  CHECK(run(42) == second);
}

TEST_CASE("conv: a steady step makes no plans, converts filters once for each version and allocates nothing") {
  cpu::ConvEngine engine;
  std::vector<ConvCase> layers;
  for (const auto& [name, t] : odd_cases()) layers.push_back(t);
  std::vector<std::vector<float>> dws;
  for (const auto& t : layers) dws.emplace_back(t.w.size());
  std::uint64_t version = 0;
  const auto step = [&] {
    ++version;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto& t = layers[i];
      Buffer x(t.x_shape, t.x), y(t.y_shape()), dy(t.y_shape(), t.dy), dx(t.x_shape);
      const Filters w{t.w.data(), version * 1000 + i};
      engine.forward({.geometry = t.geometry, .x = x.view(), .weight = w, .bias = nullptr, .activation = {}, .y = y.view()});
      engine.forward({.geometry = t.geometry, .x = x.view(), .weight = w, .bias = nullptr, .activation = {}, .y = y.view()});
      engine.backward_data({.geometry = t.geometry, .dy = dy.view(), .weight = w, .dx = dx.view()});
      engine.backward_weight({.geometry = t.geometry,
                              .x = x.view(),
                              .dy = dy.view(),
                              .dweight = dws[i].data(),
                              .dbias = nullptr,
                              .accumulate = true});
    }
  };
  step();
  const auto warm = engine.counters();
  CHECK(warm.plans == static_cast<std::int64_t>(3 * layers.size()));
  step();
  step();
  auto later = engine.counters();
  CHECK(later.filter_reorders == 3 * warm.filter_reorders);
  CHECK(later.filter_reorders <= static_cast<std::int64_t>(3 * 2 * layers.size()));
  later.filter_reorders = warm.filter_reorders;
  CHECK((later == warm));
}

TEST_CASE("conv: wrong shapes are refused") {
  const auto t = ConvCase::random("wrong", {.kernel_h = 3, .kernel_w = 3}, {1, 6, 7, 4}, 8, false);
  Buffer x(t.x_shape, t.x), y({1, 6, 7, 8});
  CHECK_THROWS_AS(t.forward(x.view(), y.view()), Error);
}

TEST_CASE("linear: golden ops_linear") {
  const auto file = golden::load("ops_linear");
  for (const std::string name : {"bias", "plain", "single"}) {
    CAPTURE(name);
    const auto read = [&](const std::string& what) { return file.at(name + "." + what).f32(); };
    const auto rows = file.at(name + ".x").shape[0], in = file.at(name + ".x").shape[1], out = file.at(name + ".w").shape[0];
    const bool has_bias = file.has(name + ".b");
    const auto x = read("x"), w = read("w"), b = has_bias ? read("b") : std::vector<float>(), dy = read("gy");
    std::vector<float> y(static_cast<std::size_t>(rows * out), 5.f), dx(x.size(), 5.f), dw(w.size(), 1.f), db(b.size(), 1.f);
    backend().linear_forward({.x = x.data(),
                              .weight = w.data(),
                              .bias = has_bias ? b.data() : nullptr,
                              .y = y.data(),
                              .rows = rows,
                              .in = in,
                              .out = out});
    backend().linear_backward({.x = x.data(),
                               .weight = w.data(),
                               .dy = dy.data(),
                               .dx = dx.data(),
                               .dweight = dw.data(),
                               .dbias = has_bias ? db.data() : nullptr,
                               .rows = rows,
                               .in = in,
                               .out = out});
    for (auto* sum : {&dw, &db})
      for (float& v : *sum) v -= 1;  // both are added to what was there
    CHECK(golden::relative_error(y, read("y")) < kF32);
    CHECK(golden::relative_error(dx, read("gx")) < kF32);
    CHECK(golden::relative_error(dw, read("gw")) < kF32);
    if (has_bias) CHECK(golden::relative_error(db, read("gb")) < kF32);
    backend().linear_backward({.x = x.data(),
                               .weight = w.data(),
                               .dy = dy.data(),
                               .dx = nullptr,
                               .dweight = nullptr,
                               .dbias = nullptr,
                               .rows = rows,
                               .in = in,
                               .out = out});  // nothing wanted
  }
}
