#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <memory>

#include "tests/kernels/guarded.h"
#include "tests/kernels/host_conv_runner.h"
#include "tests/numbers.h"

// All that the CUDA backend does around cuDNN's convolutions, with the CPU backend in cuDNN's place: padding, packing,
// fusing, unpadding, accumulating must leave the convolution that was asked for.
using namespace frost;
using namespace frost::cuda;
using frost::testing::Guarded;
using frost::testing::noise;

namespace {

Backend& cpu() {
  static const auto backend = make_cpu_backend();
  return *backend;
}

struct Case {
  const char* name;
  ConvGeometry geometry;
  std::int64_t in, out;
  std::int64_t before = 0, after = 0;  // neighbouring channels of x, y: slices
};
const std::vector<Case> kCases{
    {"whole", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1}, 16, 8},
    {"stem", {.kernel_h = 6, .kernel_w = 6, .stride_h = 2, .stride_w = 2, .pad_h = 2, .pad_w = 2}, 3, 16},
    {"head", {}, 16, 21},
    {"pruned", {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1}, 13, 11},
    {"slices", {}, 8, 16, 8, 16},
    {"odd slices", {.kernel_h = 1, .kernel_w = 3, .pad_w = 1}, 8, 8, 3, 2},
    {"column", {.kernel_h = 7, .kernel_w = 1, .pad_h = 3}, 12, 20},
    {"dilated", {.kernel_h = 3, .kernel_w = 3, .pad_h = 2, .pad_w = 2, .dilation_h = 2, .dilation_w = 2}, 8, 5},
    {"depthwise", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1, .groups = 12}, 12, 12},
    {"groups", {.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1, .groups = 4}, 12, 20},
};

/// Operands as the types hold them, and the convolution of these values in f32.
struct Problem {
  Shape x_shape, y_shape, w_shape;
  std::vector<float> x, w, dy, bias;

  Problem(const Case& c, DType type)
      : x_shape{2, 6, 7, c.in},
        y_shape(c.geometry.output(x_shape, c.out)),
        w_shape{c.out, c.geometry.kernel_h, c.geometry.kernel_w, c.in / c.geometry.groups},
        x(values(x_shape, 1, type)),
        w(values(w_shape, 2, type)),
        dy(values(y_shape, 3, type)),
        bias(noise(static_cast<std::size_t>(c.out), 4)) {}

  static std::vector<float> values(const Shape& shape, std::uint64_t seed, DType type) {
    return Guarded(shape, noise(static_cast<std::size_t>(shape.elements()), seed), type).values();
  }
};

/// The largest difference, relative to the largest value: sums of products reach 30, and cancel.
double error(const std::vector<float>& got, const std::vector<float>& want) {
  double worst = 0, largest = 1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(double(got[i]) - want[i]));
    largest = std::max(largest, std::abs(double(want[i])));
  }
  return worst / largest;
}
double tolerance(DType type) {  // three roundings of half a step (sum, bias, result), SiLU's slope of at most 1.1
  return type == DType::bf16 ? 0x1p-7 : type == DType::f16 ? 0x1p-10 : 1e-6;
}

constexpr std::array kTypes{DType::f32, DType::f16, DType::bf16};

}  // namespace

TEST_CASE("conv call: forward with bias, activation, slices, padding and wider results is the convolution asked for") {
  using enum ActivationKind;
  for (const Case& c : kCases)
    for (const DType type : kTypes)
      for (const DType y_type : {type, DType::f32})
        for (const ActivationKind kind : {identity, silu, relu, leaky_relu, hardswish, relu6, hardsigmoid})
          for (const bool with_bias : {false, true})
            for (const bool fusing : {false, true})
              for (const bool tf32 : {false, true}) {
                if (tf32 && type != DType::f32) continue;
                const Problem p(c, type);
                const Guarded x(p.x_shape, p.x, type, c.before, c.after);
                Guarded y(p.y_shape, y_type, c.before, c.after);
                const Activation activation{kind, .1f};
                const float* bias = with_bias ? p.bias.data() : nullptr;
                const HostLaunch launch;
                HostConvRunner runner(launch, cpu(), fusing);
                ConvCalls(launch, runner, tf32, false)
                    .forward({.geometry = c.geometry,
                              .x = x.view(),
                              .weight = {p.w.data(), 0},
                              .bias = bias,
                              .activation = activation,
                              .y = y.view()});
                std::vector<float> want(static_cast<std::size_t>(p.y_shape.elements()));
                cpu().conv_forward({.geometry = c.geometry,
                                    .x = packed_view(p.x.data(), p.x_shape),
                                    .weight = {p.w.data(), 0},
                                    .bias = bias,
                                    .activation = activation,
                                    .y = packed_view(want.data(), p.y_shape)});
                INFO(detail::join(c.name, " ", name_of(type), " activation ", static_cast<int>(kind), " bias ", with_bias));
                CHECK(error(y.values(), want) <= tolerance(type));
                CHECK(y.intact());
                CHECK(runner.runs == 1);
                const bool whole = c.before == 0 && y_type == type &&
                                   conv_key(ConvPass::forward, c.geometry, p.x_shape, p.y_shape, type, tf32).y == p.y_shape;
                CHECK(runner.fused == (fusing && with_bias && whole && kind <= leaky_relu));
              }
}

TEST_CASE("conv call: gradients of x") {
  for (const Case& c : kCases)
    for (const DType type : kTypes)
      for (const DType dy_type : {type, DType::f32}) {
        if (dy_type != type && c.before != 0) continue;  // f32 maps are heads: whole tensors
        const Problem p(c, type);
        const Guarded dy(p.y_shape, p.dy, dy_type, c.before, c.after);
        Guarded dx(p.x_shape, type, c.before, c.after);
        const HostLaunch launch;
        HostConvRunner runner(launch, cpu());
        ConvCalls(launch, runner, false, false)
            .backward_data({.geometry = c.geometry, .dy = dy.view(), .weight = {p.w.data(), 0}, .dx = dx.view()});
        std::vector<float> want(static_cast<std::size_t>(p.x_shape.elements()));
        cpu().conv_backward_data({.geometry = c.geometry,
                                  .dy = packed_view(p.dy.data(), p.y_shape),
                                  .weight = {p.w.data(), 0},
                                  .dx = packed_view(want.data(), p.x_shape)});
        INFO(detail::join(c.name, " ", name_of(type)));
        CHECK(error(dx.values(), want) <= tolerance(type));
        CHECK(dx.intact());
      }
}

TEST_CASE("conv call: gradients of filters and biases, written and added") {
  for (const Case& c : kCases)
    for (const DType type : kTypes)
      for (const DType dy_type : {type, DType::f32})
        for (const bool accumulate : {false, true}) {
          const Problem p(c, type);
          const Guarded x(p.x_shape, p.x, type, c.before, c.after), dy(p.y_shape, p.dy, dy_type, c.before, c.after);
          const std::vector<float> dw_before = Problem::values(p.w_shape, 5, DType::f32);
          const Shape bias_shape{1, 1, 1, c.out};
          const std::vector<float> db_before = Problem::values(bias_shape, 6, DType::f32);
          Guarded dw(p.w_shape, dw_before), db(bias_shape, db_before);
          const HostLaunch launch;
          HostConvRunner runner(launch, cpu());
          ConvCalls(launch, runner, false, false)
              .backward_weight({.geometry = c.geometry,
                                .x = x.view(),
                                .dy = dy.view(),
                                .dweight = dw.view().as<float>(),
                                .dbias = db.view().as<float>(),
                                .accumulate = accumulate});
          std::vector<float> dw_want = dw_before, db_want = db_before;
          cpu().conv_backward_weight({.geometry = c.geometry,
                                      .x = packed_view(p.x.data(), p.x_shape),
                                      .dy = packed_view(p.dy.data(), p.y_shape),
                                      .dweight = dw_want.data(),
                                      .dbias = db_want.data(),
                                      .accumulate = accumulate});
          INFO(detail::join(c.name, " ", name_of(type), accumulate ? " added" : ""));
          CHECK(error(dw.values(), dw_want) <= tolerance(type));
          CHECK(error(db.values(), db_want) <= 1e-6);
          CHECK(dw.intact());
          CHECK(db.intact());
        }
}

TEST_CASE("conv call: filters are converted once for each version") {
  const HostLaunch launch;
  HostConvRunner runner(launch, cpu());
  const Shape x_shape{1, 2, 2, 8}, y_shape{1, 2, 2, 8};
  Problem p({"", {}, 8, 8}, DType::bf16);
  const Guarded x(x_shape, noise(32, 1), DType::bf16);
  const auto run = [&](std::uint64_t version) {
    Guarded y(y_shape, DType::bf16);
    ConvCalls(launch, runner, false, false)
        .forward({.geometry = {},
                  .x = x.view(),
                  .weight = {p.w.data(), version},
                  .bias = nullptr,
                  .activation = {},
                  .y = y.view()});
    return y.values();
  };
  const auto first = run(41);
  p.w[0] += 1;
  CHECK(run(41) == first);  // the promise was that nothing changed
  const auto second = run(42);
  CHECK(second != first);
  p.w[0] += 1;
  const auto unkept = run(0);
  CHECK((unkept != first && unkept != second));
  CHECK(run(42) == second);
  runner.kept.clear();
  CHECK(run(42) == unkept);
}

TEST_CASE("filter cache: forms, captures, and filters at rest") {
  struct Watched : HostLaunch {  // notes what captures are told of, and what is still kept
    mutable std::vector<PersistentWorkspace> used;
    mutable std::vector<std::weak_ptr<void>> made;
    PersistentWorkspace keep(std::size_t bytes) const {
      const PersistentWorkspace memory = HostLaunch::keep(bytes);
      made.push_back(memory);
      return memory;
    }
    void captured_uses(const PersistentWorkspace& memory) const { used.push_back(memory); }
  } launch;
  FilterCache cache;
  const Shape shape{3, 1, 1, 3};
  std::vector<float> w(9, 1), other(9, 5);
  alignas(16) std::array<std::uint16_t, 64> room{};
  const ConvKey bf16 = conv_key(ConvPass::forward, {}, {1, 1, 1, 3}, {1, 1, 1, 3}, DType::bf16);
  ConvKey f16 = bf16;
  f16.dtype = DType::f16;
  // The first value that a call with this version finds.
  const auto found = [&](unsigned long long capture, std::uint64_t version, const ConvKey& key, std::vector<float>& from) {
    cache.begin_call(capture);
    const void* at = cache.find(launch, Filters{from.data(), version}, shape, key, room.data());
    CHECK((at == room.data()) == (version == 0 || (capture != 0 && launch.made.empty())));
    return key.dtype == DType::bf16 ? math::to_float(*static_cast<const math::bf16*>(at))
                                    : math::to_float(*static_cast<const math::f16*>(at));
  };
  CHECK(found(7, 1, bf16, w) == 1);  // a capture that meets it first allocates nothing
  CHECK(found(0, 1, bf16, w) == 1);
  w[0] = 2;
  CHECK(found(0, 1, bf16, w) == 1);
  CHECK(found(0, 1, f16, w) == 2);  // another form
  CHECK(found(0, 1, bf16, other) == 5);
  CHECK(launch.made.size() == 3);
  // A capture records one conversion, and relies on what was there before it began.
  w[0] = 3;
  CHECK(found(8, 1, bf16, w) == 1);
  CHECK(found(8, 2, bf16, w) == 3);
  w[0] = 4;
  CHECK(found(8, 2, bf16, w) == 3);
  CHECK(found(9, 2, bf16, w) == 4);  // another one cannot know whether that conversion ever ran
  w[0] = 5;
  CHECK(found(0, 2, bf16, w) == 5);
  w[0] = 6;
  CHECK(found(9, 2, bf16, w) == 5);
  CHECK(launch.made.size() == 3);
  CHECK(launch.used.back() == launch.made[0].lock());
  // What nobody asked for goes when the next filter comes; the others stay.
  launch.used.clear();
  for (std::int64_t i = 0; i < FilterCache::kRest; ++i) cache.begin_call(0);
  CHECK(found(0, 2, bf16, w) == 5);
  std::vector<float> late(9, 9);
  CHECK(found(0, 1, bf16, late) == 9);
  launch.used.clear();
  CHECK((!launch.made[0].expired() && launch.made[1].expired() && launch.made[2].expired() && !launch.made[3].expired()));
}

TEST_CASE("conv call: impossible shapes are named") {
  const HostLaunch launch;
  HostConvRunner runner(launch, cpu());
  const ConvCalls calls(launch, runner, false, false);
  std::vector<float> memory(4096);
  const View x = packed_view(memory.data(), {1, 4, 4, 4}), y = packed_view(memory.data(), {1, 5, 5, 4});
  CHECK_THROWS_WITH_AS(calls.forward({.geometry = {}, .x = x, .weight = {memory.data(), 0}, .activation = {}, .y = y}),
                       "conv2d: y is 1x5x5x4, x 1x4x4x4 gives 1x4x4x4", Error);
  ConvGeometry grouped;
  grouped.groups = 3;
  CHECK_THROWS_AS(calls.forward({.geometry = grouped, .x = x, .weight = {memory.data(), 0}, .activation = {}, .y = x}),
                  Error);
}
