#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <tuple>

#include "engine/checkpoint/module_state.h"
#include "kernels/trace/trace.h"
#include "models/graph/detection_model.h"
#include "models/graph/registry.h"
#include "models/slim/filters.h"
#include "tests/device.h"
#include "tests/source_dir.h"

/// What the rows of a model YAML build: every argument of a row is honoured or refused by name.
namespace frost {
namespace {
using frost::testing::TestDevice;

/// A model whose layers 0 to n - 1 are `rows` ("-1, 1, Conv, [16, 3]") on an image of 3 channels, with a head after them.
std::string yaml_of(const std::vector<std::string>& rows, const std::string& keys = "") {
  std::string text = "nc: 2\ndepth_multiple: 1.0\nwidth_multiple: 1.0\nanchors: 3\n" + keys + "backbone:\n";
  for (const std::string& row : rows) text += "  - [" + row + "]\n";
  return text + "head:\n  - [[-1], 1, Detect, [nc, anchors]]\n";
}
std::unique_ptr<DetectionModel> built(Device& device, const std::vector<std::string>& rows, const std::string& keys = "") {
  return std::make_unique<DetectionModel>(device, parse_model_yaml(yaml_of(rows, keys), "g.yaml"), 1);
}
/// The message of what is refused; "" where nothing is.
std::string refusal(const std::vector<std::string>& rows, const std::string& keys = "") {
  TestDevice device;
  try {
    built(device, rows, keys);
  } catch (const Error& e) {
    CHECK(device.ledger().total().peak == 0);  // refused before any memory is taken
    return e.what();
  }
  return "";
}
template <class M>
M& module(DetectionModel& model, const std::string& name) {
  M* found = nullptr;
  model.walk([&](const std::string& at, Module& m) {
    if (at == name) found = dynamic_cast<M*>(&m);
  });
  REQUIRE_MESSAGE(found, name);
  return *found;
}
/// The block that `row` builds after a Conv of 16 channels.
struct OneRow {
  TestDevice device;
  std::unique_ptr<DetectionModel> model;
  explicit OneRow(const std::string& row, const std::string& keys = "")
      : model(built(device, {"-1, 1, Conv, [16, 3, 2]", row}, keys)) {}
  ConvNormAct& conv(const std::string& name = "model.1") { return module<ConvNormAct>(*model, name); }
};

}  // namespace

TEST_CASE("a row's kernel, stride, padding, groups and dilation are the convolution's") {
  const std::vector<std::pair<std::string, ConvGeometry>> rows{
      {"-1, 1, Conv, [16]", {}},
      {"-1, 1, Conv, [16, 3, 2]", {3, 3, 2, 2, 1, 1}},
      {"-1, 1, Conv, [16, [1, 1]]", {1, 1, 1, 1, 0, 0}},
      {"-1, 1, Conv, [16, [3, 1], [2, 1]]", {3, 1, 2, 1, 1, 0}},
      {"-1, 1, Conv, [16, '(3, 5)']", {3, 5, 1, 1, 1, 2}},
      {"-1, 1, Conv, [16, 3, 1, [0, 2]]", {3, 3, 1, 1, 0, 2}},
      {"-1, 1, Conv, [16, 3, 1, None, 4]", {3, 3, 1, 1, 1, 1, 1, 1, 4}},
      {"-1, 1, Conv, [16, 3, 1, null, 1, 2]", {3, 3, 1, 1, 2, 2, 2, 2}},
      {"-1, 1, Conv, [16, [3, 5], 1, None, 1, 3, False]", {3, 5, 1, 1, 3, 6, 3, 3}},
      {"-1, 1, Conv, [16, 3, 1, 0, 1, 2]", {3, 3, 1, 1, 0, 0, 2, 2}},
      {"-1, 1, DWConv, [16, 5, 2, 2]", {5, 5, 2, 2, 4, 4, 2, 2, 16}},
      {"-1, 1, DWConv, [24, 3]", {3, 3, 1, 1, 1, 1, 1, 1, 8}}};
  for (const auto& [row, geometry] : rows) {
    CAPTURE(row);
    OneRow one(row);
    CHECK(one.conv().conv.geometry == geometry);
    DetectionModel again(one.device, parse_model_yaml(one.model->spec().text, "again.yaml"));  // as a checkpoint keeps it
    CHECK(module<ConvNormAct>(again, "model.1").conv.geometry == geometry);
  }
  CHECK(OneRow("-1, 1, Focus, [16, 3, 1, 0, 4, nn.ReLU()]").conv("model.1.conv").conv.geometry ==
        ConvGeometry{3, 3, 1, 1, 0, 0, 1, 1, 4});
  CHECK(OneRow("-1, 1, GhostConv, [16, 3, 2, 4]").conv("model.1.cv1").conv.geometry ==
        ConvGeometry{3, 3, 2, 2, 1, 1, 1, 1, 4});
  CHECK(OneRow("-1, 1, Bottleneck, [16, False, 2, 1.0]").conv("model.1.cv2").conv.geometry.groups == 2);
  CHECK(OneRow("-1, 1, C3, [16, True, 4, 1.0]").conv("model.1.m.0.cv2").conv.geometry.groups == 4);
}

TEST_CASE("a row's activation is the block's; True is the graph's, False and None are none") {
  const Activation silu{ActivationKind::silu}, none{ActivationKind::identity}, relu{ActivationKind::relu};
  const Activation leaky{ActivationKind::leaky_relu, 0.1f};
  const std::vector<std::pair<std::string, Activation>> rows{
      {"-1, 1, Conv, [16]", silu},
      {"-1, 1, Conv, [16, 3, 1, None, 1, 1, True]", silu},
      {"-1, 1, Conv, [16, 3, 1, None, 1, 1, False]", none},
      {"-1, 1, Conv, [16, 3, 1, None, 1, 1, None]", none},
      {"-1, 1, Conv, [16, 3, 1, None, 1, 1, nn.ReLU()]", relu},
      {"-1, 1, Conv, [16, 3, 1, None, 1, 1, 'nn.LeakyReLU(0.1, inplace=True)']", leaky},
      {"-1, 1, Conv, [16, 3, 1, None, 1, 1, nn.LeakyReLU(negative_slope=0.1)]", leaky},
      {"-1, 1, Conv, [16, 3, 1, None, 1, nn.LeakyReLU(0.1)]", leaky},  // v6.x: no dilation
      {"-1, 1, Conv, [16, 3, 1, None, 1, False]", none},
      {"-1, 1, Conv, [16, 3, 1, None, 1, True]", silu},
      {"-1, 1, DWConv, [16, 3, 1, 1, nn.ReLU()]", relu},
      {"-1, 1, DWConv, [16, 3, 1, nn.ReLU()]", relu}};
  for (const auto& [row, activation] : rows) {
    CAPTURE(row);
    const OneRow one(row);
    CHECK(module<ConvNormAct>(*one.model, "model.1").activation.kind == activation.kind);
    if (activation.kind == ActivationKind::leaky_relu)
      CHECK(module<ConvNormAct>(*one.model, "model.1").activation.slope == activation.slope);
  }
  CHECK(OneRow("-1, 1, Focus, [16, 3, 1, None, 1, nn.ReLU()]").conv("model.1.conv").activation.kind == relu.kind);
  for (const char* part : {"model.1.cv1", "model.1.cv2"})
    CHECK(OneRow("-1, 1, GhostConv, [16, 1, 1, 1, nn.ReLU()]").conv(part).activation.kind == relu.kind);
  CHECK(OneRow("-1, 1, Conv, [16, 3, 1, None, 1, 1, True]", "activation: nn.ReLU()\n").conv().activation.kind == relu.kind);
}

TEST_CASE("a CSP block's own activation is SiLU as in v7.0, whatever the convolutions have, or the file's csp_activation") {
  const std::string row = "-1, 1, BottleneckCSP, [16]";
  const auto own = [](const OneRow& one) { return module<BottleneckCSP>(*one.model, "model.1").activation; };
  OneRow relu(row, "activation: nn.ReLU()\n"), old(row, "activation: nn.Hardswish()\ncsp_activation: nn.LeakyReLU(0.1)\n");
  CHECK(own(relu).kind == ActivationKind::silu);
  CHECK(relu.conv("model.1.cv1").activation.kind == ActivationKind::relu);
  CHECK(own(old) == Activation{ActivationKind::leaky_relu, 0.1f});
  CHECK(old.conv("model.1.cv4").activation.kind == ActivationKind::hardswish);
  DetectionModel again(old.device, parse_model_yaml(old.model->spec().text, "again.yaml"));
  CHECK(module<BottleneckCSP>(again, "model.1").activation.kind == ActivationKind::leaky_relu);
}

TEST_CASE("a dilated convolution is the plain one whose kernel has zeros between its taps") {
  OneRow dilated("-1, 1, Conv, [16, 3, 1, None, 1, 2]"), wide("-1, 1, Conv, [16, 5]");
  const Tensor& small = dilated.conv().conv.weight.value;
  const std::vector<float> taps = small.to_vector();
  std::vector<float> spread(static_cast<std::size_t>(wide.conv().conv.weight.value.elements()), 0.0f);
  for (std::size_t o = 0; o < 16; ++o)
    for (std::size_t h = 0; h < 3; ++h)
      for (std::size_t w = 0; w < 3; ++w)
        for (std::size_t i = 0; i < 16; ++i)
          spread[((o * 5 + 2 * h) * 5 + 2 * w) * 16 + i] = taps[((o * 3 + h) * 3 + w) * 16 + i];
  wide.conv().conv.weight.value.assign(spread);
  wide.conv().conv.weight.touch();
  const auto output = [](OneRow& one) {
    std::vector<float> values(1 * 9 * 7 * 16);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 37 % 101) / 50.0f - 1.0f;
    Context context{.device = one.device};
    return one.conv().forward(context, {Tensor::from(one.device, {1, 9, 7, 16}, values), -1, nullptr}).value.to_vector();
  };
  const std::vector<float> a = output(dilated), b = output(wide);
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-4));
}

namespace {
std::vector<float> noise(std::size_t count, std::size_t seed = 1) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>((i * 7919 + seed * 104729) % 2003) / 1000.0f - 1.0f;
  return values;
}
/// What layer 1 of `one` makes of `x`, 16 channels.
Tensor layer_output(OneRow& one, const Shape& shape, const std::vector<float>& x) {
  Context context{.device = one.device};
  return module<Module>(*one.model, "model.1").forward(context, {Tensor::from(one.device, shape, x), -1, nullptr}).value;
}
}  // namespace

TEST_CASE("PyTorch's own modules as rows: what they compute") {
  const Shape in{1, 4, 6, 16};
  const std::vector<float> x = noise(static_cast<std::size_t>(in.elements()));
  const auto at = [&](const std::vector<float>& v, const Shape& s, std::int64_t h, std::int64_t w, std::int64_t c) {
    return v[static_cast<std::size_t>((h * s.w + w) * s.c + c)];
  };
  const auto elementwise = [&](const std::string& row, const std::function<double(double)>& f) {
    CAPTURE(row);
    OneRow one(row);
    const std::vector<float> y = layer_output(one, in, x).to_vector();
    REQUIRE(y.size() == x.size());
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(y[i] == doctest::Approx(f(x[i])).epsilon(1e-5));
  };
  const auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
  elementwise("-1, 1, nn.ReLU, []", [](double z) { return std::max(z, 0.0); });
  elementwise("-1, 1, nn.ReLU, [True]", [](double z) { return std::max(z, 0.0); });
  elementwise("-1, 1, nn.LeakyReLU, [0.2]", [](double z) { return z > 0 ? z : 0.2 * z; });
  elementwise("-1, 1, nn.LeakyReLU, []", [](double z) { return z > 0 ? z : 0.01 * z; });
  elementwise("-1, 1, nn.SiLU, []", [&](double z) { return z * sigmoid(z); });
  elementwise("-1, 1, nn.Hardswish, []", [](double z) { return z * std::clamp(z + 3, 0.0, 6.0) / 6; });
  elementwise("-1, 1, nn.Sigmoid, []", sigmoid);
  elementwise("-1, 1, nn.Mish, []", [](double z) { return z * std::tanh(std::log1p(std::exp(z))); });
  elementwise("-1, 1, nn.Identity, []", [](double z) { return z; });
  elementwise("-1, 2, nn.Sigmoid, []", [&](double z) { return sigmoid(sigmoid(z)); });  // repeats are made, too
  elementwise("-1, 1, nn.Sequential, [nn.ReLU(), nn.Sigmoid()]", [&](double z) { return sigmoid(std::max(z, 0.0)); });
  elementwise("-1, 1, nn.Sequential, []", [](double z) { return z; });
  // running_var 0.9 of a fresh model, eps 1e-3
  elementwise("-1, 1, nn.BatchNorm2d, [16]", [](double z) { return z / std::sqrt(0.901); });
  elementwise("-1, 1, nn.BatchNorm2d, []", [](double z) { return z / std::sqrt(0.901); });
  const auto sized = [&](const std::string& row, const Shape& shape, const auto& f) {
    CAPTURE(row);
    OneRow one(row);
    const Tensor y = layer_output(one, in, x);
    REQUIRE(y.shape() == shape);
    const std::vector<float> values = y.to_vector();
    for (std::int64_t h = 0; h < shape.h; ++h)
      for (std::int64_t w = 0; w < shape.w; ++w)
        for (std::int64_t c = 0; c < 16; ++c) CHECK(at(values, shape, h, w, c) == doctest::Approx(f(h, w, c)).epsilon(1e-4));
  };
  const auto pixel = [&](std::int64_t h, std::int64_t w, std::int64_t c) {
    return h < 0 || w < 0 || h >= in.h || w >= in.w ? -INFINITY : at(x, in, h, w, c);
  };
  sized("-1, 1, nn.Upsample, [None, 2]", {1, 8, 12, 16}, [&](auto h, auto w, auto c) { return pixel(h / 2, w / 2, c); });
  sized("-1, 1, nn.Upsample, [None, 2.0, nearest]", {1, 8, 12, 16},
        [&](auto h, auto w, auto c) { return pixel(h / 2, w / 2, c); });
  sized("-1, 1, nn.Upsample, [None, [1, 2], nearest]", {1, 4, 12, 16},
        [&](auto h, auto w, auto c) { return pixel(h, w / 2, c); });
  sized("-1, 1, nn.Upsample, [[8, 6], None, nearest]", {1, 8, 6, 16},
        [&](auto h, auto w, auto c) { return pixel(h / 2, w, c); });
  sized("-1, 1, nn.Upsample, [7, None, bilinear, True]", {1, 7, 7, 16}, [&](auto h, auto w, auto c) {
    const double r = double(h) * 3 / 6, k = double(w) * 5 / 6;
    const auto r0 = std::min<std::int64_t>(std::int64_t(r), 2), k0 = std::min<std::int64_t>(std::int64_t(k), 4);
    const double a = r - double(r0), b = k - double(k0);
    return (1 - a) * ((1 - b) * pixel(r0, k0, c) + b * pixel(r0, k0 + 1, c)) +
           a * ((1 - b) * pixel(r0 + 1, k0, c) + b * pixel(r0 + 1, k0 + 1, c));
  });
  const auto window = [&](std::int64_t h, std::int64_t w, std::int64_t c, std::int64_t size) {
    float best = -INFINITY;
    for (std::int64_t i = h; i < h + size; ++i)
      for (std::int64_t k = w; k < w + size; ++k) best = std::max(best, static_cast<float>(pixel(i, k, c)));
    return best;
  };
  sized("-1, 1, nn.MaxPool2d, [2, None, 0]", {1, 2, 3, 16},
        [&](auto h, auto w, auto c) { return window(2 * h, 2 * w, c, 2); });
  sized("-1, 1, nn.MaxPool2d, [[3, 3], 2, 0, 1, False, True]", {1, 2, 3, 16},
        [&](auto h, auto w, auto c) { return window(2 * h, 2 * w, c, 3); });
  sized("-1, 1, nn.AvgPool2d, [2]", {1, 2, 3, 16}, [&](auto h, auto w, auto c) {
    return (pixel(2 * h, 2 * w, c) + pixel(2 * h, 2 * w + 1, c) + pixel(2 * h + 1, 2 * w, c) +
            pixel(2 * h + 1, 2 * w + 1, c)) /
           4;
  });
}

TEST_CASE("nn.Conv2d as a row: scaled as a Conv, or with both channels as PyTorch writes it") {
  const auto conv = [](const std::string& row) -> std::tuple<std::int64_t, ConvGeometry, bool> {
    OneRow one(row, "");
    Conv2d& c = module<Conv2d>(*one.model, "model.1");
    return {c.out, c.geometry, c.bias != nullptr};
  };
  using Expected = std::tuple<std::int64_t, ConvGeometry, bool>;
  CHECK(conv("-1, 1, nn.Conv2d, [24, 1]") == Expected{24, {}, true});
  CHECK(conv("-1, 1, nn.Conv2d, [24, 3, 2, 1]") == Expected{24, {3, 3, 2, 2, 1, 1}, true});
  CHECK(conv("-1, 1, nn.Conv2d, [24, [3, 1], 1, same, 2, 8, False, zeros]") ==
        Expected{24, {3, 1, 1, 1, 2, 0, 2, 2, 8}, false});
  CHECK(conv("-1, 1, nn.Conv2d, [16, 16, 3, 1, 1]") == Expected{16, {3, 3, 1, 1, 1, 1}, true});
  CHECK(conv("-1, 1, nn.Conv2d, [no, 1]") == Expected{21, {}, true});
  const auto refused = [](const std::string& row) { return refusal({"-1, 1, Conv, [16]", row}); };
  CHECK(refused("-1, 1, nn.Conv2d, [16]").find("argument 2 (kernel_size) is missing") != std::string::npos);
  CHECK(refused("-1, 1, nn.Conv2d, [16, 32, 3]").find("argument 2 (out_channels) is 32, expected 16") != std::string::npos);
  CHECK(refused("-1, 1, nn.Conv2d, [32, 3, 1, 1, 1, 1, True, reflect]").find("argument 8 (padding_mode) is reflect") !=
        std::string::npos);
  CHECK(refused("-1, 1, nn.Conv2d, [32, 3, 2, same]").find("argument 4 (padding) is same") != std::string::npos);
  CHECK(refused("-1, 1, nn.BatchNorm2d, [32]").find("argument 1 (num_features) is 32, expected the input's") !=
        std::string::npos);
  CHECK(refused("-1, 1, nn.BatchNorm2d, [16, 1e-5]").find("2 arguments, it takes at most 1") != std::string::npos);
  CHECK(refused("-1, 1, nn.Sequential, [nn.ReLU(), nn.GELU()]").find("argument 2 (module) is nn.GELU()") !=
        std::string::npos);
  CHECK(refused("-1, 1, nn.AvgPool2d, [3, 2]").find("argument 2 (stride) is 2") != std::string::npos);
  CHECK(refused("-1, 1, nn.Upsample, [None, None]").find("expected a size or a scale_factor, got neither") !=
        std::string::npos);
}

namespace {
/// One of everything that a row may say.
const std::vector<std::string> kAll{"-1, 1, Conv, [16, [3, 3], 2, None, 1, 1, nn.Mish()]",
                                    "-1, 1, nn.Conv2d, [24, 3, 1, 1, 1, 1, False]",
                                    "-1, 1, nn.BatchNorm2d, []",
                                    "-1, 1, nn.Mish, []",
                                    "-1, 1, Conv, [32, 3, 2, None, 1, nn.LeakyReLU(0.1)]",
                                    "-1, 1, Conv, [32, [3, 1], 1, None, 1, 3]",
                                    "-1, 1, DWConv, [32, 3, 1, 2, False]",
                                    "-1, 1, nn.MaxPool2d, [2, 2, 0, 1, False, True]",
                                    "-1, 1, nn.Upsample, [None, 2, bilinear, True]",
                                    "[-1, 6], 1, Concat, [-3]",
                                    "-1, 1, GhostConv, [32, 3, 1, 1, nn.ReLU()]",
                                    "-1, 2, nn.Sequential, [nn.Hardswish(), nn.LeakyReLU(0.3)]",
                                    "-1, 1, nn.AvgPool2d, [2]",
                                    "-1, 2, C3, [32, True, 2, 1.0]",
                                    "-1, 1, nn.Conv2d, [32, 32, 1]"};
std::vector<float> all_heads(DetectionModel& model, Device& device, std::int64_t side) {
  Context context{.device = device};
  const Shape shape{1, side, side, 3};
  const Tensor image = Tensor::from(device, shape, noise(static_cast<std::size_t>(shape.elements())), Role::input);
  return model.heads(context, {image, -1, nullptr})[0].value.to_vector();
}
}  // namespace

TEST_CASE("a graph of all these rows trains: its gradient is the loss' derivative") {
  TestDevice device;
  const auto model = built(device, kAll);
  const Shape shape{2, 32, 32, 3};
  const std::vector<float> pixels = noise(static_cast<std::size_t>(shape.elements()), 5);
  const auto forward = [&](Tape* tape) {
    Context context{.device = device, .tape = tape, .training = true};
    return model->heads(context, {Tensor::from(device, shape, pixels, Role::input), -1, nullptr})[0];
  };
  const std::vector<float> dy = noise(static_cast<std::size_t>(forward(nullptr).shape().elements()), 9);
  const auto loss = [&] {
    const std::vector<float> y = forward(nullptr).value.to_vector();
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += double(y[i]) * dy[i];
    return sum;
  };
  for (Parameter* p : model->parameters()) p->trainable = true;
  Tape tape;
  const Var y = forward(&tape);
  tape.backward({{y.slot, Tensor::from(device, y.shape(), dy)}});
  int checked = 0;
  for (Parameter* p : model->parameters()) {
    CAPTURE(p->name);
    REQUIRE(p->grad);
    // along the gradient itself: the largest derivative there is, and rounding the smallest part of it
    const std::vector<float> values = p->value.to_vector(), grad = p->grad.to_vector();
    double square = 0;
    for (const float g : grad) square += double(g) * g;
    if (square == 0) continue;
    const double step = 2e-3 / std::sqrt(square);
    const auto moved = [&](double by) {
      std::vector<float> shifted = values;
      for (std::size_t i = 0; i < shifted.size(); ++i) shifted[i] += static_cast<float>(by * step * grad[i]);
      p->value.assign(shifted);
      p->touch();
      return loss();
    };
    const double difference = (moved(1) - moved(-1)) / (2 * step);
    p->value.assign(values);
    p->touch();
    CHECK(difference == doctest::Approx(square).epsilon(0.05));
    ++checked;
  }
  CHECK(checked > 20);
}

TEST_CASE("a graph of all these rows is saved, loaded, fused, drawn as a table and pruned") {
  TestDevice device;
  const auto model = built(device, kAll);
  const std::vector<float> before = all_heads(*model, device, 64);
  SUBCASE("its YAML's own text and its state make it again") {
    DetectionModel again(device, parse_model_yaml(model->spec().text, "again.yaml"), 77);
    load_state(again, state_of(*model));
    CHECK(all_heads(again, device, 64) == before);
    CHECK(again.table() == model->table());
  }
  SUBCASE("fused it computes the same") {
    fuse(*model);
    const std::vector<float> after = all_heads(*model, device, 64);
    REQUIRE(after.size() == before.size());
    for (std::size_t i = 0; i < after.size(); ++i) CHECK(after[i] == doctest::Approx(before[i]).epsilon(1e-3));
  }
  SUBCASE("the table shows what was built") {
    const std::string table = model->table();
    for (const char* part : {"models.common.Conv                      [3, 16, [3, 3], 2, None, 1, 1, nn.Mish()]",
                             "torch.nn.modules.batchnorm.BatchNorm2d  [24]", "torch.nn.modules.activation.Mish        []",
                             "torch.nn.modules.conv.Conv2d            [16, 24, 3, 1, 1, 1, 1, False]"})
      CHECK_MESSAGE(table.find(part) != std::string::npos, table);
  }
  SUBCASE("pruned of its least filters it still runs, and its widths and state make it again") {
    const auto trace = [&] {
      return slim::trace_channels(device, *model, {1, 64, 64, 3},
                                  [&](Context& context, const Var& x) { return model->heads(context, x); });
    };
    const slim::ChannelGraph graph = trace();
    const auto importance = slim::channel_importance(graph, slim::Importance::l1);
    slim::remove_channels(graph, slim::choose_channels(graph, importance, 0.3, 1));
    const std::vector<float> after = all_heads(*model, device, 64);
    CHECK(after.size() == before.size());
    for (const float v : after) CHECK(std::isfinite(v));
    DetectionModel again(device, model->spec(), 5, widths_of(*model));
    load_state(again, state_of(*model));
    CHECK(all_heads(again, device, 64) == after);
  }
}

TEST_CASE("an argument that is not what the module takes is refused by its name") {
  const std::vector<std::pair<std::string, std::string>> rows{
      {"-1, 1, Conv, []", "(Conv): argument 1 (channels) is missing"},
      {"-1, 1, Conv, [64, 3.5]", "argument 2 (kernel) is 3.5, expected a whole number from 1 to 4096"},
      {"-1, 1, Conv, [64, [1, 2, 3]]", "argument 2 (kernel) is [1, 2, 3]"},
      {"-1, 1, Conv, [64, (3, 1)]", "argument 2 (kernel) is (3, expected"},
      {"-1, 1, Conv, [64, 3, 0]", "argument 3 (stride) is 0"},
      {"-1, 1, Conv, [64, 3, 1, -1]", "argument 4 (padding) is -1"},
      {"-1, 1, Conv, [64, 3, 1, same]", "argument 4 (padding) is same"},
      {"-1, 1, Conv, [64, 3, 1, None, 5]", "3 -> 64 channels cannot be cut into 5 groups"},
      {"-1, 1, Conv, [64, 3, 1, None, 1, 0]", "argument 6 (dilation) is 0"},
      {"-1, 1, Conv, [64, 3, 1, None, 1, nn.ReLU(), True]", "argument 6 (dilation) is nn.ReLU()"},
      {"-1, 1, Conv, [64, 3, 1, None, 1, 1, 1]", "argument 7 (activation) is 1, expected True, False, None"},
      {"-1, 1, Conv, [64, 3, 1, None, 1, 1, nn.ReLU]", "argument 7 (activation) is nn.ReLU, expected"},
      {"-1, 1, Conv, [64, 3, 1, None, 1, 1, nn.GELU()]", "argument 7 (activation): activation 'nn.GELU()' is not one of"},
      {"-1, 1, Conv, [64, 3, 1, None, 1, 1, nn.LeakyReLU(slope=0.1)]", "argument 'slope=0.1' is not understood"},
      {"-1, 1, Conv, [64, 3, 1, None, 1, 1, True, 5]", "(Conv): 8 arguments, it takes at most 7: channels, kernel"},
      {"-1, 1, Conv, [99999999999]", "argument 1 (channels) is 99999999999, expected a whole number from 1 to 1048576"},
      {"-1, 1, DWConv, [64, 3, 1, 1, True, 2]", "(DWConv): 6 arguments, it takes at most 5"},
      {"-1, 1, Bottleneck, [64, 2]", "argument 2 (shortcut) is 2, expected True or False"},
      {"-1, 1, C3, [64, True, 1, 0.5, 7]", "(C3): 5 arguments"},
      {"-1, 1, C3Ghost, [64, maybe]", "argument 2 (shortcut) is maybe"},
      {"-1, 1, SPP, [64, [5, 8]]", "argument 2 (kernels) is [5, 8], expected odd kernels"},
      {"-1, 1, SPPF, [64, 5, 1]", "(SPPF): 3 arguments"},
      {"-1, 1, GhostConv, [64, 3, 1, 1, True, 1]", "(GhostConv): 6 arguments"},
      {"-1, 1, GhostBottleneck, [64, 3, 3]", "argument 3 (stride) is 3"},
      {"-1, 1, nn.Upsample, [None, 2, bicubic]", "argument 3 (mode) is bicubic, expected nearest or bilinear"},
      {"-1, 1, nn.Upsample, [None, 2, nearest, True]", "argument 4 (align_corners) is True"},
      {"-1, 1, nn.Upsample, [None, 1.5, nearest]", "argument 2 (scale_factor) is 1.5, expected a whole number"},
      {"-1, 1, nn.MaxPool2d, [3, 1, 2]", "max_pool: kernel 3, stride 1, padding 2; expected"},
      {"-1, 1, nn.MaxPool2d, [[3, 2]]", "argument 1 (kernel_size) is [3, 2], expected one number"},
      {"-1, 1, nn.MaxPool2d, [3, 1, 1, 2]", "argument 4 (dilation) is 2; frost supports 1 alone"},
      {"-1, 1, nn.MaxPool2d, [3, 1, 1, 1, True]", "argument 5 (return_indices) is True"},
      {"-1, 1, nn.ZeroPad2d, [[1, 2]]", "argument 1 (padding) is [1, 2]"},
      {"[-1], 1, Concat, [2]", "argument 1 (dimension) is 2"},
      {"[-1], 2, Concat, [1]", "(Concat): cannot be repeated"}};
  for (const auto& [row, message] : rows) {
    const std::string said = refusal({row});
    CAPTURE(row);
    CHECK_MESSAGE(said.find("g.yaml: layer 0") != std::string::npos, said);
    CHECK_MESSAGE(said.find(message) != std::string::npos, said);
    CHECK(said.find('\n') == std::string::npos);
  }
}

TEST_CASE("an unknown module is named before anything else is said, with what is known about such files") {
  const auto names = [](const std::vector<std::string>& rows, const std::string& expected) {
    const std::string said = refusal(rows);
    CHECK_MESSAGE(said.starts_with(expected), said);
  };
  names({"-1, 1, Conv, [16]", "[0, 0], 1, BiFPN_Add2, [16, 16]"}, "g.yaml: layer 1: unknown module 'BiFPN_Add2' (known: ");
  names({"-1, 1, Conv, [0]", "[0, 7], 5000, Sum, [2]"}, "g.yaml: layer 1: unknown module 'Sum' (known: ");
  names({"[-1, -1], 1, Segment, [nc, anchors, 32, 256]"},
        "g.yaml: layer 0: unknown module 'Segment': segmentation is not supported (known: ");
  names({"-1, 1, C2f, [64]"},
        "g.yaml: layer 0: unknown module 'C2f': models of the ultralytics package (v8 and later) are not read (known: ");
  names({"-1, 3, C3TR, [64]"}, "g.yaml: layer 0: unknown module 'C3TR': a module of YOLOv5 that frost does not support");
  // a file of another project that has not even our keys
  const auto of = [](const std::string& text) {
    try {
      parse_model_yaml(text, "v8.yaml");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(of("nc: 80\nscales:\n  n: [0.33, 0.25, 1024]\nbackbone:\n  - [-1, 1, Conv, [64, 3, 2]]\n  - [-1, 3, C2f, [128, "
           "True]]\nhead:\n  - [[1], 1, Detect, [nc]]\n")
            .starts_with("v8.yaml: layer 1: unknown module 'C2f': models of the ultralytics package"));
  CHECK(of("nc: 80\nscales:\n  n: [0.33, 0.25, 1024]\nbackbone:\n  - [-1, 1, Conv, [64, 3, 2]]\nhead:\n  - [[0], 1, "
           "Detect, [nc]]\n")
            .find("ultralytics package") != std::string::npos);
}

TEST_CASE("bounds hold for channels, and for all rows together") {
  CHECK(refusal({"-1, 1, Conv, [2000000]"}).find("argument 1 (channels) is 2000000") != std::string::npos);
  for (const char* e : {"1e18", "-1e300", ".nan", ".inf", "0", "100.5"}) {
    CAPTURE(e);
    for (const std::string block : {"Bottleneck", "C3", "C3Ghost", "BottleneckCSP"})
      CHECK(refusal({"-1, 1, " + block + ", [16, True, 1, " + e + "]"}).find("argument 4 (expansion) is ") !=
            std::string::npos);
  }
  CHECK(refusal({"-1, 1, C3, [8, True, 1, 0.1]"}).find("0 channels, expected 1 to 1048576") != std::string::npos);
  std::vector<std::string> doubled{"-1, 1, Conv, [16]"};
  for (int i = 0; i < 70; ++i) doubled.push_back("[-1, -1], 1, Concat, [1]");
  CHECK(refusal(doubled).find("layer 17 (Concat): 2097152 channels, expected 1 to 1048576") != std::string::npos);
  std::vector<std::string> repeats{"-1, 1, Conv, [8]"};
  for (int i = 0; i < 40; ++i) repeats.push_back("-1, 1000, Bottleneck, [8]");
  CHECK(refusal(repeats).find("more than 4096 modules up to here") != std::string::npos);
  CHECK(refusal(std::vector<std::string>(5000, "-1, 1, nn.Identity, []")).find("more than 4096 layers") !=
        std::string::npos);
  CHECK(refusal({"-1, 1, Conv, [1048576]", "-1, 1, Conv, [1048576]"}).find("more than 268435456 parameters up to here") !=
        std::string::npos);
  CHECK(refusal({"-1, 1, Conv, [16]", "-1, 1, Conv, [1000000, 3]", "-1, 1, DWConv, [1000000, 16]"})
            .find("more than 268435456 parameters") != std::string::npos);
}

TEST_CASE("sizes that overflow are refused before they are computed, with the layer") {
  const auto says = [](const std::vector<std::string>& rows, const std::string& message) {
    const std::string said = refusal(rows);
    CHECK_MESSAGE(said.find(message) != std::string::npos, said);
    CHECK(said.find("-9223372036854775808") == std::string::npos);
  };
  const std::string grow = "-1, 1, nn.Upsample, [None, 4096, nearest]";
  says({"-1, 1, Conv, [8]", grow, grow, grow, grow, grow, grow}, "g.yaml: layer 1 (nn.Upsample): more than 2^36 bytes");
  says({"-1, 1, Conv, [8]", "-1, 20, nn.Upsample, [None, 100, nearest]"}, "g.yaml: layer 1 (nn.Upsample): a tensor of ");
  says({"-1, 1, nn.Upsample, [None, 4096]", "-1, 1, Conv, [512, 3]"}, "g.yaml: layer 0 (nn.Upsample): more than 2^36 bytes");
  says({"-1, 1, nn.Upsample, [None, 128]", "-1, 1, Conv, [8, 31]"}, "g.yaml: layer 1 (Conv): more than 2^40 multiply-adds");
  says({"-1, 1, Conv, [8, 3, 4096]", "-1, 1, Conv, [8, 3, 1, 0]"},
       "g.yaml: layer 1 (Conv): conv2d: input 1x1x1x8 is smaller");
  says({"-1, 1, Conv, [8, 3, 2]", "-1, 1, nn.MaxPool2d, [200, 300]"},
       "g.yaml: layer 1 (nn.MaxPool2d): max_pool: input 1x128x128x8 is smaller");
  says({"-1, 1, nn.AvgPool2d, [3]"}, "g.yaml: layer 0 (nn.AvgPool2d): ");
  CHECK(refusal({"-1, 1, SPP, [64, '(5, 9, 13)']"}) == "");
  for (const std::string depth : {".nan", "1e30", "-1", "0"})
    for (const std::string width : {"1", ".inf"}) {
      CAPTURE(depth);
      const std::string text =
          "nc: 2\ndepth_multiple: " + (width == "1" ? depth : "1") + "\nwidth_multiple: " + width +
          "\nanchors: 3\nbackbone:\n  - [-1, 2, Conv, [8]]\nhead:\n  - [[-1], 1, Detect, [nc, anchors]]\n";
      CHECK_THROWS_WITH_AS(parse_model_yaml(text, "d.yaml"), doctest::Contains("depth_multiple and width_multiple"), Error);
    }
  says({"-1, 2000000000, Bottleneck, [8]"}, "2000000000 repeats, expected 1 to 1000");
}

TEST_CASE("an image's activations, and what pools, resizing and activations do for it, are bounded for all rows together") {
  const auto says = [](const std::vector<std::string>& rows, const std::string& message) {
    const std::string said = refusal(rows);
    CHECK_MESSAGE(said.find(message) != std::string::npos, said);
  };
  const std::string bytes = "more than 2^36 bytes read and written for an image of 256 x 256 up to here";
  says({"-1, 1, nn.Upsample, [None, 4096, nearest]", "-1, 12, nn.MaxPool2d, [2]"},
       "g.yaml: layer 0 (nn.Upsample): " + bytes);
  says({"-1, 1, nn.Upsample, [40000, None, nearest]"}, "expected a whole number from 1 to 4096");
  const std::string wide = "-1, 1, Conv, [4096, 1]";  // 1 GiB
  says({wide, "-1, 100, nn.ReLU, []"}, "g.yaml: layer 1 (nn.ReLU): " + bytes);
  says({wide, "-1, 100, nn.BatchNorm2d, []"}, bytes);
  says({wide, "-1, 1, nn.Upsample, [None, 10, bilinear]"}, bytes);
  says({wide, "-1, 1, nn.ZeroPad2d, [4000]"}, bytes);
  says({"-1, 1, Conv, [64, 1]", "-1, 100, nn.MaxPool2d, [3, 1, 1]", "-1, 1000, nn.Hardswish, []",
        "-1, 1000, nn.Sequential, [nn.ReLU()]"},
       bytes);
  const std::string windows = "more than 2^34 values in the windows of max pools for an image of 256 x 256 up to here";
  says({"-1, 1, Conv, [64, 1]", "-1, 1, nn.MaxPool2d, [255, 1, 127]"}, "g.yaml: layer 1 (nn.MaxPool2d): " + windows);
  says({"-1, 1, Conv, [64, 1]", "-1, 1, SPP, [64, [5, 129]]"}, "layer 1 (SPP): " + windows);
  for (const std::string row :
       {"SPPF, [64, 257]", "SPP, [64, [5, 257]]", "nn.MaxPool2d, [257]", "nn.MaxPool2d, [[300, 300]]"})
    says({"-1, 1, " + row}, " from 1 to 256");  // said where the row is read, with the argument's name
  CHECK(refusal({wide, "-1, 2, nn.ReLU, []", "-1, 1, nn.MaxPool2d, [9, 8, 4]"}) == "");
}

TEST_CASE("the largest known graphs stay far below these bounds") {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  for (const char* name : {"yolov5x6", "yolov5-p7", "yolov3-spp"}) {
    double bytes = 0, window_values = 0;
    Device meta(make_meta_backend(*backend, [&](const PrimitiveCall& call) {
      bytes += static_cast<double>(call.bytes), window_values += static_cast<double>(call.window_values);
    }));
    DetectionModel model(meta, load_model_spec(name));
    bytes = window_values = 0;
    Context context{.device = meta};
    model.heads(context, {Tensor(meta, {1, 256, 256, 3}), -1, nullptr});
    CAPTURE(name);
    CAPTURE(bytes);
    CAPTURE(window_values);
    CHECK(bytes > 1e6);
    CHECK(window_values > 1e4);
    CHECK(bytes * 30 < GraphBudget::kBytes);
    CHECK(window_values * 50 < GraphBudget::kWindowValues);
  }
}

TEST_CASE("a pool's numbers must fit each other, from whichever key they come") {
  const std::string pool = "-1, 1, nn.MaxPool2d, [2]";
  for (const std::string numbers : {"padding: 4", "padding: 2", "kernel_size: 257", "{kernel_size: 9, padding: 5}"}) {
    CAPTURE(numbers);
    const std::string map = numbers.starts_with('{') ? numbers : "{" + numbers + "}";
    const std::string said = refusal({"-1, 1, Conv, [16]", pool}, "modules: {model.1: " + map + "}\n");
    CHECK_MESSAGE(said.find("max_pool: kernel ") != std::string::npos, said);
  }
  CHECK(refusal({"-1, 1, Conv, [16]", pool}, "modules: {model.1: {padding: 1}}\n") == "");
}

TEST_CASE("the key modules names modules of the graph, and attributes that can be changed") {
  const auto said = [](const std::string& modules) {
    return refusal({"-1, 1, Conv, [16]", "-1, 1, nn.Upsample, [None, 2]"}, "modules: {" + modules + "}\n");
  };
  for (const std::string name : {"model.7", "model.99.conv", "model.0.cv1", "model.0.conv.x", "conv", "model.-1"}) {
    CAPTURE(name);
    CHECK(said(name + ": {stride: 2}").ends_with(name + ": 'modules' names a module that the graph does not have"));
  }
  CHECK(said("model.0.conv: {groups: 2}").ends_with("model.0.conv: groups is unknown"));
  CHECK(said("model.0.conv: {eps: 1}").ends_with("model.0.conv: eps is unknown"));
  CHECK(said("model.0.bn: {track_running_stats: False}").ends_with("track_running_stats is unknown"));
  CHECK(said("model.1: {scale_factor: null}").ends_with("expected a size or a scale_factor, got neither"));
  CHECK(said("model.1: {size: 8}").ends_with("expected a size or a scale_factor, got both"));
  CHECK(said("model.1: {size: 256, scale_factor: null}") == "");
}

TEST_CASE("arguments that are modules or lists as text are read once, and no longer than any row needs") {
  const auto sequential = [](const std::string& call) { return refusal({"-1, 1, nn.Sequential, ['" + call + "']"}); };
  const auto nested = [](int depth) {
    std::string text = "nn.ReLU()";
    for (int i = 0; i < depth; ++i) text = "nn.Sequential(" + text + ")";
    return text;
  };
  for (const int depth : {1, 2, 1000}) {
    CAPTURE(depth);
    CHECK(sequential(nested(depth)).find("argument 1 (module) is nn.Sequential(") != std::string::npos);
    CHECK(sequential(nested(depth)).find("expected one of nn.AvgPool2d, nn.BatchNorm2d, ") != std::string::npos);
  }
  CHECK(sequential("nn.MaxPool2d(3, 1, 1)") == "");
  for (const std::string& arguments : {std::string("3]: [1"), std::string("&a [*a]"), std::string("3] --- [1"),
                                       std::string(150, '[') + std::string(150, ']'), std::string(2000, ' ')}) {
    CAPTURE(arguments);
    CHECK(sequential("nn.MaxPool2d(" + arguments + ")").find("expected a module with its arguments") != std::string::npos);
    CHECK(refusal({"-1, 1, Conv, [16, '(" + arguments + ")']"}).find("argument 2 (kernel) is (") != std::string::npos);
  }
}

TEST_CASE("a module in nn.Sequential takes its arguments by place and by name, as PyTorch's constructors do") {
  const auto said = [](const std::string& list) {
    return refusal({"-1, 1, Conv, [16]", "-1, 1, nn.Sequential, [" + list + "]"});
  };
  const auto says = [&](const std::string& list, const std::string& message) {
    const std::string text = said(list);
    CHECK_MESSAGE(text.find(message) != std::string::npos, text);
  };
  const auto pool = [](const std::string& call) {
    OneRow one("-1, 1, nn.Sequential, ['" + call + "']");
    return module<MaxPool2d>(*one.model, "model.1.0").geometry;
  };
  const PoolGeometry expected{3, 1, 1, true};
  for (const std::string call : {"nn.MaxPool2d(3, 1, 1, 1, False, True)", "nn.MaxPool2d(3, 1, 1, ceil_mode=True)",
                                 "nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True)",
                                 "nn.MaxPool2d( 3,padding = 1 , stride=1, ceil_mode=True,)",
                                 "nn.MaxPool2d((3, 3), stride=[1, 1], padding=(1, 1), ceil_mode=True)"}) {
    CAPTURE(call);
    const PoolGeometry g = pool(call);
    CHECK(std::tie(g.kernel, g.stride, g.pad, g.ceil_mode) ==
          std::tie(expected.kernel, expected.stride, expected.pad, expected.ceil_mode));
  }
  OneRow leaky(
      "-1, 1, nn.Sequential, ['nn.ReLU(inplace=True)', 'nn.LeakyReLU(0.3, inplace=True)', 'nn.LeakyReLU(inplace=True)']");
  CHECK(module<Activate>(*leaky.model, "model.1.1").kind == Activation{ActivationKind::leaky_relu, 0.3f});
  CHECK(module<Activate>(*leaky.model, "model.1.2").kind == Activation{ActivationKind::leaky_relu, 0.01f});
  CHECK(said("'nn.Upsample(scale_factor=2, mode=\"bilinear\")'") == "");
  for (const std::string call : {"nn.MaxPool2d(kernel=3)", "nn.MaxPool2d(3, kernel_size=3)", "nn.MaxPool2d(stride=2, 3)",
                                 "nn.MaxPool2d(=3)", "nn.ReLU(inplace=)"})
    says("'" + call + "'", "expected a module with its arguments");
  says("'nn.MaxPool2d(stride=2)'", "argument 1 (kernel_size) is missing");
  says("'nn.MaxPool2d(3, dilation=2)'", "argument 4 (dilation) is 2");
  says("nn.GELU()", "expected one of nn.AvgPool2d, nn.BatchNorm2d, nn.Hardswish, ");
  // What YAML cuts at its commas.
  const std::string hint = "put a module that has commas in quotes";
  says("nn.MaxPool2d(3, 1, 1), nn.ReLU()", hint);
  says("nn.ReLU(), nn.LeakyReLU(0.1, True)", hint);
  CHECK(refusal({"-1, 1, Conv, [16, 3, 1, None, 1, nn.LeakyReLU(0.1, True)]"}).find(hint) != std::string::npos);
  CHECK(refusal({"-1, 1, Conv, [16, 3, 1, None, 1, 1, nn.LeakyReLU(0.1, True)]"}).find("takes at most 7") !=
        std::string::npos);
  CHECK(refusal({"-1, 1, Conv, [16, 3, 1, None, 1, 1, nn.LeakyReLU(0.1, True)]"}).find(hint) != std::string::npos);
  std::string many;
  for (int i = 0; i < 33; ++i) many += (i ? ", " : "") + std::string("nn.ReLU()");
  CHECK(said(many).ends_with("33 arguments, it takes at most 32: module"));
}

TEST_CASE("what docs/models.md shows builds") {
  std::ifstream file(frost::testing::source_dir() / "docs/models.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string> rows;
  const std::string start = "```yaml\nbackbone:\n";
  std::istringstream block(text.substr(text.find(start) + start.size()));
  for (std::string line; std::getline(block, line) && line.starts_with("  - [");)
    rows.push_back(line.substr(5, line.rfind(']', line.find(" #")) - 5));
  CHECK(rows.size() == 3);
  const std::size_t at = text.find("`[", text.find("| `nn.Sequential` |"));
  rows.push_back("-1, 1, nn.Sequential, " + text.substr(at + 1, text.find('`', at + 1) - at - 1));
  CHECK(refusal(rows) == "");
}

TEST_CASE("numbers of the file itself are refused by range, as they are written") {
  const auto said = [](const std::string& key, const std::string& value) {
    std::string text = yaml_of({"-1, 1, Conv, [16]"}, key == "ch" ? "ch: " + value + "\n" : "");
    if (const auto at = text.find(key + ": "); key != "ch") text.replace(at, text.find('\n', at) - at, key + ": " + value);
    try {
      (void)parse_model_yaml(text, "n.yaml");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  for (const std::string value : {"3000000000", "-3000000000", "1e300", ".nan", "-.inf", "0", "-1", "many"}) {
    CHECK(said("anchors", value) == "n.yaml: anchors is " + value + ", expected a whole number from 1 to 100");
    CHECK(said("nc", value) == "n.yaml: nc is " + value + ", expected a whole number from 1 to 100000");
    CHECK(said("ch", value) == "n.yaml: ch is " + value + ", expected a whole number from 1 to 1024");
  }
  CHECK(said("nc", "2.5") == "n.yaml: nc is 2.5, expected a whole number from 1 to 100000");
  CHECK(said("anchors", "2.6") == "");  // YOLOv5 rounds it
  for (const std::string value : {"[[10, -13]]", "[[0, 13]]", "[[.inf, 13]]", "[[.nan, 13]]"})
    CHECK_MESSAGE(said("anchors", value).starts_with("n.yaml: anchors hold "), value);
  CHECK(said("anchors", "[[10, 13]]") == "");
}

TEST_CASE("a slope that no f32 holds is refused wherever it stands") {
  for (const std::string slope : {"1e300", "-1e39", ".inf", ".nan"}) {
    CAPTURE(slope);
    CHECK(refusal({"-1, 1, nn.LeakyReLU, [" + slope + "]"}).find("argument 1 (negative_slope) is ") != std::string::npos);
    CHECK(refusal({"-1, 1, nn.Sequential, [nn.LeakyReLU(" + slope + ")]"}).find("(negative_slope) is ") !=
          std::string::npos);
  }
  CHECK(refusal({"-1, 1, Conv, [16, 3, 1, None, 1, 1, nn.LeakyReLU(1e300)]"}).find("slope") != std::string::npos);
}

TEST_CASE("a device without values draws none") {
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  Device meta(make_meta_backend(*backend, {}));
  Rng drawn(5), fresh(5);
  Conv2d(meta, 1024, 1024, {.kernel_h = 3, .kernel_w = 3}, true).initialise(drawn);
  CHECK(drawn.next() == fresh.next());
  Linear(meta, 1024, 1024).initialise(drawn);
  CHECK(drawn.next() == fresh.next());
}

TEST_CASE("the count of layers knows which blocks have an activation of their own") {
  TestDevice device;
  DetectionModel ghost(device, load_model_spec("yolov5s-ghost"));  // the numbers of docs/spec/model.md section 8
  CHECK(ghost.summary(false, true).find("summary: 389 layers, 3897605 parameters") != std::string::npos);
  CHECK(ghost.summary(true, true).find("summary: 302 layers, 3888789 parameters") != std::string::npos);
}

}  // namespace frost
