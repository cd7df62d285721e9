#include <doctest/doctest.h>

#include <functional>

#include "engine/checkpoint/module_state.h"
#include "engine/nn/layers.h"
#include "tests/device.h"
#include "tests/numbers.h"

using namespace frost;
using frost::testing::dot;
using frost::testing::noise;

namespace {

/// Gradient of dot(f(x), dy) by the tape against central differences, in float32: values of order 1 and a step of 1/64 leave
/// a rounding error of some 1e-4 in a quotient, and the curvature term h^2/6 f''' another 1e-4.
void check_gradient(Device& device, const Shape& shape, const std::function<Var(Context&, const Var&)>& f,
                    double tolerance = 3e-3, std::vector<float> x0 = {}) {
  if (x0.empty()) x0 = noise(static_cast<std::size_t>(shape.elements()), 1);
  Tape tape;
  Context context{.device = device, .tape = &tape, .training = true};
  const Var x = tape.leaf(Tensor::from(device, shape, x0));
  const Var y = f(context, x);
  const std::vector<float> dy = noise(static_cast<std::size_t>(y.value.elements()), 2);
  tape.backward({{y.slot, Tensor::from(device, y.shape(), dy)}});
  const std::vector<float> grad = tape.gradient(x).to_vector();

  const auto loss = [&](std::size_t i, float h) {
    std::vector<float> moved = x0;
    moved[i] += h;
    Context plain{.device = device, .training = true};
    return dot(f(plain, {Tensor::from(device, shape, moved), -1, nullptr}).value.to_vector(), dy);
  };
  const float h = 1.0f / 64;
  double worst = 0, scale = 0;
  for (std::size_t i = 0; i < x0.size(); i += std::max<std::size_t>(1, x0.size() / 60)) {
    const double numeric = (loss(i, h) - loss(i, -h)) / (2 * h);
    worst = std::max(worst, std::abs(numeric - grad[i]));
    scale = std::max(scale, std::abs(numeric));
  }
  CHECK(scale > 0.01);
  CHECK(worst < tolerance * std::max(1.0, scale));
}

struct Block {  // a conv block with everything moved away from its initial values
  explicit Block(Device& device, std::int64_t in = 5, std::int64_t out = 6, Activation act = {ActivationKind::silu})
      : module(device, in, out, {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1}, act) {
    Rng rng(7);
    module.conv.initialise(rng);
    module.bn.weight.value.assign(noise(static_cast<std::size_t>(out), 3));
    module.bn.bias.value.assign(noise(static_cast<std::size_t>(out), 4));
    module.bn.running_mean.value.assign(noise(static_cast<std::size_t>(out), 5));
    module.name_all("block");
  }
  void freeze() {
    for (Parameter* p : module.parameters()) p->trainable = false;
  }
  ConvNormAct module;
};
}  // namespace

TEST_CASE("operators: the tape's gradients are derivatives") {
  frost::testing::TestDevice device;
  Block block(device);
  SUBCASE("conv, batch norm, SiLU") {
    check_gradient(
        device, {2, 5, 4, 5}, [&](Context& c, const Var& x) { return block.module.forward(c, x); }, 1e-2);
  }
  SUBCASE("frozen: running statistics") {
    block.freeze();
    check_gradient(device, {2, 5, 4, 5}, [&](Context& c, const Var& x) { return block.module.forward(c, x); });
  }
  SUBCASE("residual: x is used twice") {
    Block same(device, 6, 6);
    check_gradient(
        device, {1, 4, 3, 6}, [&](Context& c, const Var& x) { return same.module.forward(c, x, &x); }, 1e-2);
  }
  SUBCASE("residual before the activation: a chain of blocks, each keeping its output") {
    Block first(device, 6, 6, {ActivationKind::hardswish}), second(device, 6, 6, {ActivationKind::silu});
    check_gradient(
        device, {1, 4, 3, 6},
        [&](Context& c, const Var& x) {
          const Var y = first.module.forward(c, x, {&x, ResidualOrder::before_activation});
          return second.module.forward(c, y, {&y, ResidualOrder::before_activation});
        },
        1e-2);
  }
  SUBCASE("residual before the activation: one branch frozen") {
    Block branch(device, 6, 6);
    branch.freeze();
    const Var constant{Tensor::from(device, {1, 4, 3, 6}, noise(72, 8)), -1, nullptr};
    check_gradient(device, {1, 4, 3, 6}, [&](Context& c, const Var& x) {
      const Var y = branch.module.forward(c, x, {&constant, ResidualOrder::before_activation});
      return branch.module.forward(c, constant, {&y, ResidualOrder::before_activation});
    });
  }
  SUBCASE("concat in place, a part used again") {
    Block a(device, 5, 4), b(device, 5, 3);
    a.freeze(), b.freeze();
    check_gradient(device, {1, 4, 4, 5}, [&](Context& c, const Var& x) {
      Concatenation joined(c, x.shape(), {4, 3});
      const Var left = a.module.forward(c, x, joined.output(0)), right = b.module.forward(c, x, joined.output(1));
      const Var both = joined.join({left, right});
      return concat(c, {both, left});  // copies: `left` gets two gradients
    });
  }
  SUBCASE("add of a value to itself") {
    check_gradient(device, {1, 3, 3, 4}, [](Context& c, const Var& x) {
      const Var y = add(c, x, x);
      return add(c, y, x);
    });
  }
  SUBCASE("max pool chain as in SPPF") {
    std::vector<float> apart(90);  // values further apart than the step, so that no maximum changes its place
    for (std::size_t i = 0; i < apart.size(); ++i) apart[i] = 0.05f * static_cast<float>(i * 37 % 90) - 2.2f;
    check_gradient(
        device, {1, 6, 5, 3},
        [](Context& c, const Var& x) {
          const Var a = max_pool(c, x, {3, 1, 1}), b = max_pool(c, a, {3, 1, 1});
          return concat(c, {x, a, b});
        },
        3e-3, apart);
  }
  SUBCASE("upsample, nearest and bilinear") {
    check_gradient(device, {1, 3, 4, 2}, [](Context& c, const Var& x) {
      return concat(c, {upsample(c, x, 6, 8, ResizeMode::nearest), upsample(c, x, 6, 8, ResizeMode::bilinear)});
    });
  }
  SUBCASE("squeeze-excite: a factor for each channel, made of the same input; either side alone") {
    Block same(device, 5, 5, {ActivationKind::hardswish});
    Conv2d narrow(device, 5, 3, {}, true), wide(device, 3, 5, {}, true);
    Rng rng(5);
    narrow.initialise(rng), wide.initialise(rng);
    const Var constant{Tensor::from(device, {2, 4, 3, 5}, noise(120, 6)), -1, nullptr};
    check_gradient(
        device, {2, 4, 3, 5},
        [&](Context& c, const Var& x) {
          const Var y = same.module.forward(c, x);
          const Var s = wide.forward_act(c, narrow.forward_act(c, average_pool(c, y, 1, 1), {ActivationKind::silu}),
                                         {ActivationKind::sigmoid});
          const Var factor = average_pool(c, x, 1, 1);
          return concat(c,
                        {mul(c, y, s), mul(c, x, average_pool(c, constant, 1, 1)), mul(c, constant, factor), mul(c, x, y)});
        },
        1e-2);
  }
  SUBCASE("average pool over windows, its input made again, the padding counted and not") {
    Block a(device, 5, 4);
    check_gradient(
        device, {2, 6, 5, 5},
        [&](Context& c, const Var& x) {
          const Var y = a.module.forward(c, x);
          return concat(c, {average_pool(c, y, {3, 1, 1}), average_pool(c, y, {3, 1, 1}, false)});
        },
        1e-2);
  }
  SUBCASE("average pool, linear on maps, dropout, linear") {
    Linear maps(device, 3, 7, 2, 3), rows(device, 7, 4);
    Rng rng(3);
    maps.initialise(rng), rows.initialise(rng);
    check_gradient(device, {3, 5, 7, 3}, [&](Context& c, const Var& x) {
      return rows.forward(c, dropout(c, maps.forward(c, average_pool(c, x, 2, 3)), 0.4f, 99));
    });
  }
  SUBCASE("zero pad, space to depth, activation") {
    check_gradient(
        device, {1, 3, 5, 2},
        [](Context& c, const Var& x) {
          return activation(c, space_to_depth(c, zero_pad(c, x, 0, 1, 1, 0)), {ActivationKind::hardswish});
        },
        0.02);
  }
}

TEST_CASE("linear: weight and bias gradients; a state dict's columns are channels first") {
  frost::testing::TestDevice device;
  Linear layer(device, 3, 4, 2, 2);
  // PyTorch's weight (out, c * h * w): column c * 4 + pixel. Output o picks channel 1 of pixel (1, 0), times o + 1.
  StateDict state;
  std::vector<float> weight(48, 0.0f);
  for (std::size_t o = 0; o < 4; ++o) weight[o * 12 + 1 * 4 + 2] = static_cast<float>(o + 1);
  state.add("weight", HostTensor::from_f32({4, 12}, weight));
  state.add("bias", HostTensor::from_f32({4}, std::vector<float>{0, 10, 20, 30}));
  layer.name_all("");
  CHECK(load_state(layer, state).copied == 2);
  CHECK(state_of(layer).at("weight").to_f32() == weight);

  Tape tape;
  Context context{.device = device, .tape = &tape, .training = true};
  std::vector<float> x = noise(24, 1);
  const Var y = layer.forward(context, {Tensor::from(device, {2, 2, 2, 3}, x), -1, nullptr});
  CHECK(y.shape() == Shape{2, 1, 1, 4});
  const std::vector<float> values = y.value.to_vector();
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t o = 0; o < 4; ++o) {
      const float picked = x[n * 12 + 2 * 3 + 1];  // pixel (1, 0), channel 1
      CHECK(values[n * 4 + o] == doctest::Approx(static_cast<float>(o + 1) * picked + 10.0f * static_cast<float>(o)));
    }
  const std::vector<float> dy = noise(8, 2);
  tape.backward({{y.slot, Tensor::from(device, y.shape(), dy)}});
  const std::vector<float> dweight = layer.weight.grad.to_vector(), dbias = layer.bias.grad.to_vector();
  for (std::size_t o = 0; o < 4; ++o) {
    CHECK(dbias[o] == doctest::Approx(dy[o] + dy[4 + o]));
    for (std::size_t i = 0; i < 12; ++i)
      CHECK(dweight[o * 12 + i] == doctest::Approx(dy[o] * x[i] + dy[4 + o] * x[12 + i]).epsilon(1e-5));
  }
}

TEST_CASE("dropout: a share of p is dropped, the rest keeps the mean; the seed decides; nothing in evaluation") {
  frost::testing::TestDevice device;
  const Shape shape{40, 1, 1, 256};
  const Var x{Tensor::from(device, shape, std::vector<float>(10240, 2.0f)), -1, nullptr};
  Context context{.device = device, .training = true};
  const std::vector<float> y = dropout(context, x, 0.25f, 7).value.to_vector();
  std::size_t dropped = 0;
  for (const float v : y) {
    CHECK((v == 0.0f || v == doctest::Approx(2.0f / 0.75f)));
    dropped += v == 0.0f;
  }
  CHECK(std::abs(static_cast<double>(dropped) / 10240 - 0.25) < 0.02);  // four deviations of 10240 draws are 0.017
  CHECK(dropout(context, x, 0.25f, 7).value.to_vector() == y);
  CHECK(dropout(context, x, 0.25f, 8).value.to_vector() != y);
  context.training = false;
  CHECK(dropout(context, x, 0.25f, 7).value.data() == x.value.data());
}

TEST_CASE("recomputed activations give the same bits as kept ones") {
  frost::testing::TestDevice device;
  std::vector<std::vector<float>> first;
  for (const bool recompute : {true, false}) {
    Block a(device, 5, 6), b(device, 6, 6), c(device, 12, 4);
    Tape tape(recompute);
    Context context{.device = device, .tape = &tape, .training = true};
    const Var x = tape.leaf(Tensor::from(device, {2, 6, 4, 5}, noise(240, 1)));
    const Var y = a.module.forward(context, x);
    const Var z = b.module.forward(context, y, &y);
    const Var out = c.module.forward(context, concat(context, {z, y}));
    tape.backward({{out.slot, Tensor::from(device, out.shape(), noise(static_cast<std::size_t>(out.value.elements()), 2))}});
    std::vector<std::vector<float>> grads{tape.gradient(x).to_vector()};
    for (Block* block : {&a, &b, &c})
      for (Parameter* p : block->module.parameters()) grads.push_back(p->grad.to_vector());
    if (recompute)
      first = grads;
    else
      CHECK(grads == first);
  }
}

TEST_CASE("what is saved: exactly what backward will read") {
  frost::testing::TestDevice device;
  const Shape shape{2, 8, 8, 8};
  const std::int64_t map = shape.elements() * 4, channels = 8 * 4;
  const auto saved_after = [&](const std::vector<bool>& frozen, bool recompute) {
    std::vector<std::unique_ptr<Block>> blocks;
    for (const bool f : frozen) {
      blocks.push_back(std::make_unique<Block>(device, 8, 8));
      if (f) blocks.back()->freeze();
    }
    Tape tape(recompute);
    Context context{.device = device, .tape = &tape, .training = true};
    Var x{Tensor(device, shape, DType::f32, Role::input), -1, nullptr};
    x.value.assign(noise(static_cast<std::size_t>(shape.elements()), 1));
    for (auto& block : blocks) x = block->module.forward(context, x);
    const std::int64_t bytes = device.ledger().of(Role::saved_activation).current;
    const std::size_t nodes = tape.nodes();
    const int slot = x.slot;
    const Tensor dy = Tensor::from(device, x.shape(), noise(static_cast<std::size_t>(x.value.elements()), 2));
    x = Var();  // its rematerialization holds what it is made from
    if (slot >= 0) tape.backward({{slot, dy}});
    CHECK(device.ledger().of(Role::saved_activation).current == 0);  // backward gives everything back
    for (std::size_t i = 0; i < blocks.size(); ++i)
      for (Parameter* p : blocks[i]->module.parameters()) CHECK(static_cast<bool>(p->grad) == !frozen[i]);
    return std::pair(bytes, nodes);
  };
  const std::int64_t conv_out = map + 2 * channels;  // the convolution's output, mean and rstd
  // Three trained blocks: each keeps its convolution's output; the outputs of the activations are rematerialized.
  CHECK(saved_after({false, false, false}, true) == std::pair(3 * conv_out, std::size_t{6}));
  // ... or kept, for the weight gradients of the second and third convolution.
  CHECK(saved_after({false, false, false}, false) == std::pair(3 * conv_out + 2 * map, std::size_t{6}));
  // A frozen prefix leaves no trace; the first trained convolution keeps its input.
  CHECK(saved_after({true, true, false}, true) == std::pair(conv_out + map, std::size_t{2}));
  CHECK(saved_after({true, true, true}, true) == std::pair(std::int64_t{0}, std::size_t{0}));
  // Frozen above a trained one: backward passes through, reading only the activation's input; statistics are constants.
  CHECK(saved_after({false, true, true}, true) == std::pair(conv_out + 2 * map, std::size_t{6}));
}

TEST_CASE("mul keeps each factor only for the other's gradient") {
  frost::testing::TestDevice device;
  const Shape map{2, 4, 3, 5}, channels{2, 1, 1, 5};
  for (const auto& [a_wanted, b_wanted] : {std::pair{true, false}, {false, true}, {true, true}}) {
    Tape tape;
    Context context{.device = device, .tape = &tape, .training = true};
    const auto value = [&](const Shape& shape, std::uint64_t seed, bool wanted) {
      Tensor t(device, shape);
      t.assign(noise(static_cast<std::size_t>(shape.elements()), seed));
      return wanted ? tape.leaf(t) : Var{t, -1, nullptr};
    };
    const Var a = value(map, 1, a_wanted), b = value(channels, 2, b_wanted);
    const Var y = mul(context, a, b);
    const std::int64_t saved = (a_wanted ? channels.elements() : 0) + (b_wanted ? map.elements() : 0);
    CHECK(device.ledger().of(Role::saved_activation).current == saved * 4);
    const std::vector<float> dy = noise(static_cast<std::size_t>(map.elements()), 3);
    tape.backward({{y.slot, Tensor::from(device, map, dy)}});
    if (!b_wanted) continue;
    const std::vector<float> db = tape.gradient(b).to_vector(), values = a.value.to_vector();
    for (std::size_t n = 0; n < 2; ++n)
      for (std::size_t c = 0; c < 5; ++c) {
        double sum = 0;
        for (std::size_t p = 0; p < 12; ++p) sum += dy[(n * 12 + p) * 5 + c] * values[(n * 12 + p) * 5 + c];
        CHECK(db[n * 5 + c] == doctest::Approx(sum).epsilon(1e-5));
      }
  }
}

TEST_CASE("a frozen weight beside a trainable bias: the bias gets the sums of dy, the weight nothing, x is not kept") {
  frost::testing::TestDevice device;
  Conv2d conv(device, 5, 7, {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1}, true);
  conv.name_all("conv");
  Rng rng(3);
  conv.initialise(rng);
  conv.weight.trainable = false;
  Tape tape;
  Context context{.device = device, .tape = &tape, .training = true};
  Tensor image(device, {2, 4, 3, 5});
  image.assign(noise(120, 1));
  const Var y = conv.forward(context, {image, -1, nullptr});
  CHECK(device.ledger().of(Role::saved_activation).current == 0);
  const std::vector<float> dy = noise(static_cast<std::size_t>(y.value.elements()), 2);
  tape.backward({{y.slot, Tensor::from(device, y.shape(), dy)}});
  CHECK_FALSE(conv.weight.grad);
  const std::vector<float> dbias = conv.bias->grad.to_vector();
  for (std::size_t c = 0; c < 7; ++c) {
    double sum = 0;
    for (std::size_t i = c; i < dy.size(); i += 7) sum += dy[i];
    CHECK(dbias[c] == doctest::Approx(sum).epsilon(1e-5));
  }
}

TEST_CASE("a frozen norm without activation is linear: backward needs dy alone, nothing is kept") {
  frost::testing::TestDevice device;
  const auto block = [&] {
    auto made = std::make_unique<Block>(device, 5, 6, Activation{ActivationKind::identity});
    made->freeze();
    return made;
  };
  const auto linear = block();
  check_gradient(device, {2, 5, 4, 5}, [&](Context& c, const Var& x) { return linear->module.forward(c, x); });
  Tape tape;
  Context context{.device = device, .tape = &tape, .training = true};
  const Var x = tape.leaf(Tensor::from(device, {2, 5, 4, 5}, noise(200, 1)));
  const Var y = linear->module.forward(context, x);
  CHECK(tape.nodes() == 2);
  CHECK(device.ledger().of(Role::saved_activation).current == 0);
}

TEST_CASE("what only a residual wants: its gradient passes, the frozen branch beside it costs nothing") {
  frost::testing::TestDevice device;
  Block frozen(device, 5, 5);
  frozen.freeze();
  Tape tape;
  Context context{.device = device, .tape = &tape, .training = true};
  const Var constant{Tensor::from(device, {2, 5, 4, 5}, noise(200, 1)), -1, nullptr};
  const Var residual = tape.leaf(Tensor::from(device, {2, 5, 4, 5}, noise(200, 4)));
  const Var y = frozen.module.bn.apply(context, constant, {ActivationKind::silu}, &residual);
  CHECK(device.ledger().of(Role::saved_activation).current == 0);
  const std::vector<float> dy = noise(200, 2);
  tape.backward({{y.slot, Tensor::from(device, y.shape(), dy)}});
  CHECK(tape.gradient(residual).to_vector() == dy);
}

TEST_CASE("frozen means frozen: no parameter and no statistic moves by a bit") {
  frost::testing::TestDevice device;
  for (const FrozenBn mode : {FrozenBn::running, FrozenBn::batch}) {
    Block block(device, 5, 6);
    block.freeze();
    std::vector<std::vector<float>> before;
    const auto state = [&] {
      std::vector<std::vector<float>> values;
      block.module.visit({.parameter = [&](Parameter& p) { values.push_back(p.value.to_vector()); },
                          .buffer = [&](Buffer& b) { values.push_back(b.value.to_vector()); },
                          .counter = {}});
      return values;
    };
    before = state();
    Tape tape;
    Context context{.device = device, .tape = &tape, .training = true, .frozen_bn = mode};
    const Var x{Tensor::from(device, {2, 6, 4, 5}, noise(240, 1)), -1, nullptr};
    const Var y = block.module.forward(context, x);
    CHECK(y.slot == -1);
    if (mode == FrozenBn::running)
      CHECK(state() == before);
    else
      CHECK(state() != before);  // YOLOv5's behaviour: the statistics move
  }
}

TEST_CASE("a fused block of any kernel, norm and activation equals its parts in evaluation") {
  frost::testing::TestDevice device;
  for (const ConvGeometry& geometry :
       {ConvGeometry{.kernel_h = 1, .kernel_w = 7, .pad_w = 3}, ConvGeometry{.kernel_h = 7, .kernel_w = 1, .pad_h = 3},
        ConvGeometry{.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1, .groups = 6}})
    for (const ActivationKind kind : {ActivationKind::relu6, ActivationKind::hardswish, ActivationKind::hardsigmoid}) {
      ConvNormAct block(device, 6, 6, geometry, {kind}, {.eps = 0.1f, .momentum = 0.5f, .conv = "0", .bn = "1"});
      Rng rng(7);
      block.conv.initialise(rng);
      block.bn.running_mean.value.assign(noise(6, 5));
      block.name_all("block");
      CHECK(block.conv.weight.name == "block.0.weight");
      CHECK(block.bn.running_var.name == "block.1.running_var");
      const Var x{Tensor::from(device, {2, 6, 8, 6}, noise(576, 1)), -1, nullptr};
      Context context{.device = device};
      const std::vector<float> at_once = block.forward(context, x).value.to_vector();
      const std::vector<float> plain =
          block.bn.apply(context, block.conv.forward(context, x), block.activation).value.to_vector();
      for (std::size_t i = 0; i < plain.size(); ++i) CHECK(std::abs(at_once[i] - plain[i]) < 1e-5);
      fuse(block);
      CHECK(block.parameters().size() == 2);
      const std::vector<float> fused = block.forward(context, x).value.to_vector();
      for (std::size_t i = 0; i < plain.size(); ++i) CHECK(std::abs(fused[i] - plain[i]) < 1e-5);
    }
}

TEST_CASE("a fused block equals its parts in evaluation") {
  frost::testing::TestDevice device;
  Block block(device, 5, 6);
  const Var x{Tensor::from(device, {2, 6, 4, 5}, noise(240, 1)), -1, nullptr};
  Context context{.device = device};
  const std::vector<float> fused = block.module.forward(context, x).value.to_vector();
  const Var parts = block.module.bn.apply(context, block.module.conv.forward(context, x), block.module.activation);
  const std::vector<float> plain = parts.value.to_vector();
  for (std::size_t i = 0; i < plain.size(); ++i)
    CHECK(fused[i] == doctest::Approx(plain[i]).epsilon(1e-5));  // another order of the same sums
  block.module.conv.weight.value.assign(noise(static_cast<std::size_t>(block.module.conv.weight.value.elements()), 9));
  block.module.conv.weight.touch();
  CHECK(block.module.forward(context, x).value.to_vector() != fused);  // fused again after a change
}

TEST_CASE("a steady step asks the backend for no memory") {
  frost::testing::TestDevice device;
  Block a(device, 5, 6), b(device, 6, 6);
  const auto step = [&] {
    Tape tape;
    Context context{.device = device, .tape = &tape, .training = true};
    const Var y = b.module.forward(context, a.module.forward(context, {Tensor(device, {4, 20, 20, 5}), -1, nullptr}));
    tape.backward({{y.slot, Tensor::zeros(device, y.shape())}});
  };
  step();
  const std::size_t reserved = device.allocator().reserved_bytes();
  for (int i = 0; i < 3; ++i) step();
  CHECK(device.allocator().reserved_bytes() == reserved);
}
