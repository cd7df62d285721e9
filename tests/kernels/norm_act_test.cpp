#include "kernels/norm_act.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "kernels/backend.h"
#include "kernels/math/norm_act.h"
#include "tests/golden/golden.h"
#include "tests/kernels/device.h"
#include "tests/kernels/guarded.h"

using namespace frost;
using frost::golden::relative_error;
using frost::testing::Guarded;
using frost::testing::randoms;
using frost::testing::rounded;

namespace {

const auto backend = frost::testing::make_test_backend();
constexpr ActivationKind kKinds[] = {ActivationKind::identity,   ActivationKind::silu,      ActivationKind::relu,
                                     ActivationKind::leaky_relu, ActivationKind::hardswish, ActivationKind::sigmoid,
                                     ActivationKind::mish,       ActivationKind::relu6,     ActivationKind::hardsigmoid};

/// Activations written once more, from their definitions, in double: the value and its derivative.
std::pair<double, double> reference_activation(Activation a, double z) {
  const double s = 1 / (1 + std::exp(-z));
  switch (a.kind) {
    case ActivationKind::silu:
      return {z * s, s + z * s * (1 - s)};
    case ActivationKind::relu:
      return {std::max(z, 0.0), z > 0 ? 1 : 0};
    case ActivationKind::leaky_relu:
      return {z > 0 ? z : a.slope * z, z > 0 ? 1 : a.slope};
    case ActivationKind::hardswish:
      return {z * std::min(std::max(z + 3, 0.0), 6.0) / 6, z <= -3 ? 0 : z >= 3 ? 1 : z / 3 + 0.5};
    case ActivationKind::sigmoid:
      return {s, s * (1 - s)};
    case ActivationKind::mish: {
      const double t = std::tanh(std::log1p(std::exp(z)));
      return {z * t, t + z * s * (1 - t * t)};
    }
    case ActivationKind::relu6:
      return {std::min(std::max(z, 0.0), 6.0), z > 0 && z < 6 ? 1 : 0};
    case ActivationKind::hardsigmoid:
      return {std::min(std::max(z + 3, 0.0), 6.0) / 6, z > -3 && z < 3 ? 1.0 / 6 : 0};
    default:
      return {z, 1};
  }
}

enum class Joins { nowhere, after, before };  // the residual

/// Batch norm + activation + residual and everything that its backward returns, in double and in plain loops.
struct Reference {
  std::vector<double> mean, rstd, y, dx, dweight, dbias, dz;
  double dx_scale = 0;  // of the terms that dx is the difference of: with few pixels they cancel almost entirely
  Reference(Shape s, const std::vector<float>& x, const std::vector<float>& dy, const std::vector<float>& weight,
            const std::vector<float>& bias, Activation act, double eps, bool batch, const std::vector<float>& residual,
            Joins joins) {
    const auto c = static_cast<std::size_t>(s.c), m = static_cast<std::size_t>(s.pixels());
    mean.assign(c, 0.25), rstd.assign(c, 1.5), dweight.assign(c, 0), dbias.assign(c, 0);
    y.resize(x.size()), dx.resize(x.size()), dz.resize(x.size());
    for (std::size_t k = 0; k < c; ++k) {
      if (batch) {
        double sum = 0, spread = 0;
        for (std::size_t i = 0; i < m; ++i) sum += x[i * c + k];
        mean[k] = sum / double(m);
        for (std::size_t i = 0; i < m; ++i) spread += std::pow(x[i * c + k] - mean[k], 2);
        rstd[k] = 1 / std::sqrt(spread / double(m) + eps);
      }
      for (std::size_t i = 0; i < m; ++i) {
        const double xhat = (x[i * c + k] - mean[k]) * rstd[k];
        const double in_front = joins == Joins::before ? residual[i * c + k] : 0;
        const auto [value, slope] = reference_activation(act, weight[k] * xhat + bias[k] + in_front);
        y[i * c + k] = value + (joins == Joins::after ? residual[i * c + k] : 0);
        dz[i * c + k] = dy[i * c + k] * slope;
        dbias[k] += dz[i * c + k];
        dweight[k] += dz[i * c + k] * xhat;
      }
      for (std::size_t i = 0; i < m; ++i) {
        const double xhat = (x[i * c + k] - mean[k]) * rstd[k];
        dx_scale = std::max(dx_scale, std::abs(weight[k] * rstd[k] * dz[i * c + k]));
        dx[i * c + k] = weight[k] * rstd[k] * (dz[i * c + k] - (batch ? (dbias[k] + xhat * dweight[k]) / double(m) : 0));
      }
    }
  }
};

struct Slices {
  std::int64_t before = 0, after = 0;
};

/// Runs all three kernels on one case and compares; `tolerance` is relative to each result's scale.
void check_case(Shape s, Activation act, DType dtype, Slices slice, bool batch, Joins joins, double tolerance) {
  CAPTURE(s);
  CAPTURE(static_cast<int>(act.kind));
  CAPTURE(name_of(dtype));
  CAPTURE(slice.before);
  CAPTURE(batch);
  CAPTURE(static_cast<int>(joins));
  const auto x = rounded(randoms(s.elements(), 1, 0.3f), dtype), dy = rounded(randoms(s.elements(), 2), dtype);
  const auto residual = rounded(randoms(s.elements(), 5), dtype);
  const auto weight = randoms(s.c, 3, 1, 0.3f), bias = randoms(s.c, 4);
  const float eps = 1e-3f;
  const Reference want(s, x, dy, weight, bias, act, eps, batch, residual, joins);

  Guarded gx(s, x, dtype, slice.before, slice.after), gdy(s, dy, dtype, slice.after, slice.before);
  Guarded gy(s, dtype, slice.before, 2 * slice.after), gdx(s, dtype, slice.after, slice.after);
  Guarded gr(s, residual, dtype, 0, slice.after), gdr(s, dtype, slice.before, slice.after);
  std::vector<float> mean(want.mean.begin(), want.mean.end()), rstd(want.rstd.begin(), want.rstd.end());
  if (batch) {
    std::fill(mean.begin(), mean.end(), -1.0f);
    backend->batch_statistics({.x = gx.view(), .eps = eps, .mean = mean.data(), .rstd = rstd.data()});
    CHECK(relative_error(mean, want.mean) < 1e-6);
    CHECK(relative_error(rstd, want.rstd) < 1e-6);
  }
  NormActForward forward{
      .x = gx.view(),
      .weight = weight.data(),
      .bias = bias.data(),
      .mean = mean.data(),
      .rstd = rstd.data(),
      .activation = act,
      .residual = joins == Joins::nowhere ? ConstView{} : gr.view(),
      .order = joins == Joins::before ? ResidualOrder::before_activation : ResidualOrder::after_activation,
      .y = gy.view()};
  backend->norm_act_forward(forward);
  CHECK(relative_error(gy.values(), want.y) < tolerance);

  std::vector<float> dweight(weight.size(), 2.0f), dbias(bias.size(), -3.0f);  // added to
  NormActBackward backward{.x = gx.view(),
                           .dy = gdy.view(),
                           .weight = weight.data(),
                           .bias = bias.data(),
                           .mean = mean.data(),
                           .rstd = rstd.data(),
                           .activation = act,
                           .batch_statistics = batch,
                           .residual = joins == Joins::before ? ConstView(gr.view()) : ConstView{},
                           .dresidual = joins == Joins::before ? gdr.view() : View{},
                           .dx = gdx.view(),
                           .dweight = dweight.data(),
                           .dbias = dbias.data()};
  backend->norm_act_backward(backward);
  auto want_dweight = want.dweight, want_dbias = want.dbias;
  for (auto& v : want_dweight) v += 2.0;
  for (auto& v : want_dbias) v -= 3.0;
  // Sums of f32 products: their own rounding, whatever the activations' type is.
  // With a residual in front they are sums of dz as it is stored.
  const double sum_tolerance = joins == Joins::before ? tolerance : 4e-6;
  CHECK(relative_error(dweight, want_dweight) < sum_tolerance);
  CHECK(relative_error(dbias, want_dbias) < sum_tolerance);
  const auto dresidual = gdr.values();
  if (joins == Joins::before) CHECK(relative_error(dresidual, want.dz) < tolerance);
  const auto dx = gdx.values(), y = gy.values();
  double worst = 0;
  for (std::size_t i = 0; i < dx.size(); ++i) worst = std::max(worst, std::abs(dx[i] - want.dx[i]));
  CHECK(worst <= tolerance * want.dx_scale);

  // In place: y over x, dx over dy, and no weight gradients wanted; the same bits.
  backward.dx = gdy.view(), backward.dweight = backward.dbias = nullptr;
  backend->norm_act_backward(backward);
  CHECK(gdy.values() == dx);
  if (joins == Joins::before) {  // the residual's gradient over dy, or all three in one place
    Guarded again(s, dy, dtype), all(s, dy, dtype);
    backward.dy = backward.dresidual = again.view(), backward.dx = {};
    backend->norm_act_backward(backward);
    CHECK(again.values() == dresidual);
    backward.dy = backward.dresidual = backward.dx = all.view();
    backend->norm_act_backward(backward);
    CHECK(all.values() == dx);
  }
  forward.y = gx.view();
  backend->norm_act_forward(forward);
  CHECK(gx.values() == y);
  for (const auto* g : {&gx, &gdy, &gy, &gdx, &gr, &gdr}) CHECK(g->intact());
}

}  // namespace

TEST_CASE("norm_act: every activation, shape and slice against plain loops in double") {
  for (const Shape s : {Shape{2, 5, 7, 3}, Shape{1, 3, 3, 33}, Shape{2, 9, 11, 16}, Shape{1, 2, 3, 255}, Shape{1, 1, 2, 1},
                        Shape{3, 40, 37, 8}})
    for (const auto kind : kKinds)
      for (const Slices slice : {Slices{0, 0}, Slices{5, 2}})
        for (const bool batch : {true, false})
          // 4e-6: some tens of f32 roundings, and cancellation in dx; hardswish and relu may sit on a kink only in theory.
          for (const Joins joins : {Joins::nowhere, Joins::after, Joins::before})
            check_case(s, {.kind = kind}, DType::f32, slice, batch, joins, 4e-6);
}

TEST_CASE("norm_act: bf16 activations differ by their own rounding alone") {
  for (const Shape s : {Shape{2, 5, 7, 3}, Shape{2, 9, 11, 16}, Shape{1, 2, 3, 255}})
    for (const auto kind : kKinds)
      for (const Slices slice : {Slices{0, 0}, Slices{3, 6}})
        for (const Joins joins : {Joins::nowhere, Joins::after, Joins::before})
          // half a unit in 8 bits of mantissa; twice where dz is stored on the way
          check_case(s, {.kind = kind}, DType::bf16, slice, true, joins, joins == Joins::before ? 0x1p-7 : 0x1p-8);
}

TEST_CASE("norm_act: golden batch norm") {
  const auto file = golden::load("ops_batch_norm");
  for (const std::string name : {"train", "train_single_image", "train_default", "eval", "eval_default"}) {
    CAPTURE(name);
    const auto facts = file.fact_json(name + ".attributes");
    const bool train = facts["train"];
    const auto& dims = file.at(name + ".x").shape;
    const Shape s{dims[0], dims[2], dims[3], dims[1]};
    const auto channels_last = [&](const std::string& key) {
      return golden::nhwc(file.at(name + key).f32(), s.n, s.c, s.h, s.w);
    };
    const auto vector = [&](const std::string& key) { return file.at(name + key).f32(); };
    Guarded x(s, channels_last(".x")), dy(s, channels_last(".gy")), y(s), dx(s);
    const auto weight = vector(".weight"), bias = vector(".bias");
    auto mean = vector(".running_mean"), var = vector(".running_var"), rstd = var;
    const float eps = facts["eps"];
    if (train) {
      auto running_mean = mean;
      backend->batch_statistics({.x = x.view(),
                                 .eps = eps,
                                 .momentum = facts["momentum"],
                                 .mean = mean.data(),
                                 .rstd = rstd.data(),
                                 .running_mean = running_mean.data(),
                                 .running_var = var.data()});
      CHECK(relative_error(running_mean, vector(".new_running_mean")) < 1e-6);
      CHECK(relative_error(var, vector(".new_running_var")) < 1e-6);
    } else {
      for (auto& v : rstd) v = 1 / std::sqrt(v + eps);
    }
    backend->norm_act_forward({.x = x.view(),
                               .weight = weight.data(),
                               .bias = bias.data(),
                               .mean = mean.data(),
                               .rstd = rstd.data(),
                               .activation = {},
                               .residual = {},
                               .y = y.view()});
    std::vector<float> dweight(weight.size()), dbias(weight.size());
    backend->norm_act_backward({.x = x.view(),
                                .dy = dy.view(),
                                .weight = weight.data(),
                                .bias = bias.data(),
                                .mean = mean.data(),
                                .rstd = rstd.data(),
                                .activation = {},
                                .batch_statistics = train,
                                .dx = dx.view(),
                                .dweight = dweight.data(),
                                .dbias = dbias.data()});
    // PyTorch's own f32 run lies up to 5e-7 (relative) from these numbers.
    CHECK(relative_error(y.values(), channels_last(".y")) < 1e-6);
    CHECK(relative_error(dx.values(), channels_last(".gx")) < 1e-6);
    CHECK(relative_error(dweight, vector(".gweight")) < 1e-6);
    CHECK(relative_error(dbias, vector(".gbias")) < 1e-6);
  }
}

TEST_CASE("norm_act: the fused kernel equals the chain of simple ones") {
  const Shape s{2, 7, 5, 24};
  const auto weight = randoms(s.c, 3, 1, 0.3f), bias = randoms(s.c, 4);
  Guarded x(s, randoms(s.elements(), 1)), dy(s, randoms(s.elements(), 2)), fused(s), z(s), y(s), dz(s), dx(s), dx_fused(s);
  std::vector<float> mean(24), rstd(24), dweight(24), dbias(24), dweight_fused(24), dbias_fused(24);
  const Activation silu{.kind = ActivationKind::silu};
  backend->batch_statistics({.x = x.view(), .mean = mean.data(), .rstd = rstd.data()});
  NormActForward forward{.x = x.view(),
                         .weight = weight.data(),
                         .bias = bias.data(),
                         .mean = mean.data(),
                         .rstd = rstd.data(),
                         .activation = silu,
                         .residual = {},
                         .y = fused.view()};
  backend->norm_act_forward(forward);
  forward.activation = {}, forward.y = z.view();
  backend->norm_act_forward(forward);
  backend->activation_forward({silu, z.view(), y.view()});
  CHECK(relative_error(fused.values(), y.values()) < 3e-7);
  NormActBackward backward{.x = x.view(),
                           .dy = dy.view(),
                           .weight = weight.data(),
                           .bias = bias.data(),
                           .mean = mean.data(),
                           .rstd = rstd.data(),
                           .activation = silu,
                           .dx = dx_fused.view(),
                           .dweight = dweight_fused.data(),
                           .dbias = dbias_fused.data()};
  backend->norm_act_backward(backward);
  backend->activation_backward({silu, z.view(), dy.view(), dz.view()});
  backward.dy = dz.view(), backward.activation = {}, backward.dx = dx.view(), backward.dweight = dweight.data(),
  backward.dbias = dbias.data();
  backend->norm_act_backward(backward);
  CHECK(relative_error(dx_fused.values(), dx.values()) < 1e-6);
  CHECK(relative_error(dweight_fused, dweight) < 1e-6);
  CHECK(relative_error(dbias_fused, dbias) < 1e-6);
}

TEST_CASE("norm_act: the formulas are the derivative of forward, in double, and near zero variance") {
  for (const double deviation : {1.0, std::sqrt(1e-7)})
    for (const double eps : {1e-3, 1e-5}) {
      CAPTURE(deviation);
      constexpr std::size_t m = 35;
      const auto noise = randoms(m, 1),
                 upstream = randoms(m, 2);  // a random dy: with a constant one batch norm has no gradient
      std::vector<double> x(m);
      for (std::size_t i = 0; i < m; ++i) x[i] = 0.5 + deviation * noise[i];
      double weight = 1.3, bias = -0.2;
      const auto channel = [&] {
        double mean = 0, variance = 0;
        for (const double v : x) mean += v / double(m);
        for (const double v : x) variance += (v - mean) * (v - mean) / double(m);
        return math::NormChannel<double>{mean, math::reciprocal_std(variance, eps), weight, bias};
      };
      const auto loss = [&] {
        double sum = 0;
        for (std::size_t i = 0; i < m; ++i) sum += upstream[i] * math::norm_act<ActivationKind::silu>(x[i], channel(), 0.0);
        return sum;
      };
      const auto numeric = [&](double& at, double step) {  // fourth order, so that step may be large against rounding
        const double keep = at;
        const auto value = [&](double offset) { return at = keep + offset, loss(); };
        const double slope = (8 * (value(step) - value(-step)) - (value(2 * step) - value(-2 * step))) / (12 * step);
        at = keep;
        return slope;
      };
      const auto c = channel();
      double dbias = 0, dweight = 0;
      const auto grad = [&](std::size_t i) {
        return math::norm_act_grad<ActivationKind::silu>(x[i], double(upstream[i]), c, 0.0);
      };
      for (std::size_t i = 0; i < m; ++i) dbias += grad(i).dz, dweight += grad(i).dz * grad(i).xhat;
      CHECK(std::abs(dbias - numeric(bias, 1e-3)) < 1e-8 * (1 + std::abs(dbias)));
      CHECK(std::abs(dweight - numeric(weight, 1e-3)) < 1e-8 * (1 + std::abs(dweight)));
      for (std::size_t i = 0; i < m; ++i) {
        const double dx = math::norm_dx(grad(i), dbias / double(m), dweight / double(m), c);
        CHECK(std::abs(dx - numeric(x[i], 1e-2 / c.rstd)) < 1e-7 * c.rstd);
      }
    }
}

TEST_CASE("norm_act: activations' slopes are the derivatives of their values") {
  const auto check = [](auto kind, double z) {
    constexpr double h = 1e-4;
    const auto f = [](double v) { return math::activate<decltype(kind)::value>(v, 0.1); };
    const double numeric = (8 * (f(z + h) - f(z - h)) - (f(z + 2 * h) - f(z - 2 * h))) / (12 * h);
    CHECK(std::abs(math::activation_slope<decltype(kind)::value>(z, 0.1) - numeric) < 1e-9);
  };
  for (double z = -6.05; z < 6.1; z += 0.1) {  // never on a kink: -3, 0, 3, 6
    using enum ActivationKind;
    check(std::integral_constant<ActivationKind, identity>{}, z);
    check(std::integral_constant<ActivationKind, silu>{}, z);
    check(std::integral_constant<ActivationKind, relu>{}, z);
    check(std::integral_constant<ActivationKind, leaky_relu>{}, z);
    check(std::integral_constant<ActivationKind, hardswish>{}, z);
    check(std::integral_constant<ActivationKind, sigmoid>{}, z);
    check(std::integral_constant<ActivationKind, relu6>{}, z);
    check(std::integral_constant<ActivationKind, hardsigmoid>{}, z);
  }
}

TEST_CASE("batch_statistics: a mean far from zero, tiny variance, many values") {
  const Shape s{2, 101, 103, 5};
  for (const float mean : {0.0f, 1000.0f, -2e4f}) {
    CAPTURE(mean);
    const Guarded x(s, randoms(s.elements(), 7, mean));
    const auto values = x.values();
    std::vector<float> got_mean(5), rstd(5), again_mean(5), again_rstd(5);
    backend->batch_statistics({.x = x.view(), .eps = 1e-5f, .mean = got_mean.data(), .rstd = rstd.data()});
    backend->batch_statistics({.x = x.view(), .eps = 1e-5f, .mean = again_mean.data(), .rstd = again_rstd.data()});
    CHECK(got_mean == again_mean);  // same bits
    CHECK(rstd == again_rstd);
    for (std::size_t c = 0; c < 5; ++c) {
      double sum = 0, spread = 0;
      const double m = double(s.pixels());
      for (std::size_t i = c; i < values.size(); i += 5) sum += values[i];
      for (std::size_t i = c; i < values.size(); i += 5) spread += std::pow(values[i] - sum / m, 2);
      // Where partial sums are f32, they round values of the deviation's size, which is 1.
      CHECK(std::abs(got_mean[c] - sum / m) <= 1e-7 * std::abs(sum / m) + (frost::testing::on_cpu() ? 1e-9 : 1e-7));
      CHECK(rstd[c] ==
            doctest::Approx(1 / std::sqrt(spread / m + 1e-5)).epsilon(1e-6));  // sums in double: 1e-16 (mean / deviation)^2
    }
  }
  const Guarded same({1, 3, 5, 2}, std::vector<float>(30, 0.1f));  // no variance at all: eps alone
  std::vector<float> mean(2), rstd(2);
  backend->batch_statistics({.x = same.view(), .eps = 1e-3f, .mean = mean.data(), .rstd = rstd.data()});
  CHECK(mean[1] == 0.1f);
  CHECK(rstd[1] == doctest::Approx(1 / std::sqrt(1e-3)).epsilon(1e-6));
}

TEST_CASE("norm_act: NaN is not hidden, and mistakes are named") {
  const Shape s{1, 2, 3, 4};
  auto values = randoms(s.elements(), 1);
  values[5] = std::nanf("");
  Guarded x(s, values), y(s);
  std::vector<float> mean(4), rstd(4), running_mean(4), running_var(4);
  backend->batch_statistics({.x = x.view(), .mean = mean.data(), .rstd = rstd.data()});
  CHECK(std::isnan(mean[1]));
  CHECK(std::isnan(rstd[1]));
  CHECK_FALSE(std::isnan(rstd[0]));
  for (const auto kind : kKinds) {
    backend->norm_act_forward(
        {.x = x.view(), .activation = {.kind = kind}, .residual = {}, .y = y.view()});  // null: plain activation
    CHECK(std::isnan(y.values()[5]));
    CHECK_FALSE(std::isnan(y.values()[4]));
  }
  Guarded other({1, 2, 4, 3}), half(s, DType::bf16), one({1, 1, 1, 4}, {1, 2, 3, 4});
  CHECK_THROWS_WITH_AS(backend->norm_act_forward({.x = x.view(), .activation = {}, .residual = {}, .y = other.view()}),
                       "norm_act: shapes 1x2x3x4 and 1x2x4x3 differ", Error);
  CHECK_THROWS_WITH_AS(backend->norm_act_forward({.x = x.view(), .activation = {}, .residual = {}, .y = half.view()}),
                       "norm_act: types f32 and bf16 differ", Error);
  CHECK_THROWS_WITH_AS(backend->batch_statistics({.x = one.view(),
                                                  .mean = mean.data(),
                                                  .rstd = rstd.data(),
                                                  .running_mean = running_mean.data(),
                                                  .running_var = running_var.data()}),
                       "batch norm: training needs more than one value for each channel, x is 1x1x1x4", Error);
}
