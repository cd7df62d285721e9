#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/device.h"
#include "tests/numbers.h"

// Backward primitives that have no double-precision formula of their own, against central differences through the
// primitive's own forward pass, in float32. Inputs are of order 1 and the step is 1/64, so rounding leaves some 1e-5 in a
// quotient; functions that are linear in the input have no other error, the softmax family has h^2/6 f''' of some 1e-4.
using namespace frost;
using frost::testing::dot;
using frost::testing::noise;

namespace {

/// Largest |numeric - given| where `loss` is a function of `values`.
double worst(std::vector<float> values, const std::vector<float>& given,
             const std::function<double(const std::vector<float>&)>& loss) {
  double off = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float kept = values[i], h = 1.0f / 64;
    values[i] = kept + h;
    const double above = loss(values);
    values[i] = kept - h;
    const double below = loss(values);
    values[i] = kept;
    off = std::max(off, std::abs((above - below) / (2.0 * h) - given[i]));
  }
  return off;
}

}  // namespace

TEST_CASE("linear: dx, dweight, dbias are derivatives, and weights' gradients are added to") {
  const auto backend = frost::testing::make_test_backend();
  const std::int64_t rows = 3, in = 7, out = 5;
  const auto x = noise(21, 1), weight = noise(35, 2), bias = noise(5, 3), dy = noise(15, 4);
  const auto forward = [&](const std::vector<float>& x_, const std::vector<float>& w, const std::vector<float>& b) {
    std::vector<float> y(15);
    backend->linear_forward({x_.data(), w.data(), b.data(), y.data(), rows, in, out});
    return dot(y, dy);
  };
  std::vector<float> dx(21), dweight(35, 1.0f), dbias(5, 2.0f);
  backend->linear_backward({x.data(), weight.data(), dy.data(), dx.data(), dweight.data(), dbias.data(), rows, in, out});
  for (float& v : dweight) v -= 1.0f;
  for (float& v : dbias) v -= 2.0f;
  CHECK(worst(x, dx, [&](const auto& v) { return forward(v, weight, bias); }) < 1e-4);
  CHECK(worst(weight, dweight, [&](const auto& v) { return forward(x, v, bias); }) < 1e-4);
  CHECK(worst(bias, dbias, [&](const auto& v) { return forward(x, weight, v); }) < 1e-4);
}

TEST_CASE("mul: equal shapes, and one factor for each channel") {
  const auto backend = frost::testing::make_test_backend();
  const Shape shape{2, 3, 2, 5};
  for (const Shape& factor : {shape, Shape{2, 1, 1, 5}}) {
    const auto a = noise(60, 1), b = noise(static_cast<std::size_t>(factor.elements()), 2), dy = noise(60, 3);
    const auto forward = [&](const std::vector<float>& a_, const std::vector<float>& b_) {
      std::vector<float> y(60);
      backend->mul_forward({packed_view(a_.data(), shape), packed_view(b_.data(), factor), packed_view(y.data(), shape)});
      return dot(y, dy);
    };
    std::vector<float> da(60), db(b.size());
    backend->mul_backward({packed_view(a.data(), shape), packed_view(b.data(), factor), packed_view(dy.data(), shape),
                           packed_view(da.data(), shape), packed_view(db.data(), factor)});
    CHECK(worst(a, da, [&](const auto& v) { return forward(v, b); }) < 1e-4);
    CHECK(worst(b, db, [&](const auto& v) { return forward(a, v); }) < 1e-4);
  }
}

TEST_CASE("average pool") {
  const auto backend = frost::testing::make_test_backend();
  const Shape large{1, 7, 11, 3};
  for (const PoolGeometry g : {PoolGeometry{3, 1, 1}, {3, 2, 1}, {2, 2, 0}, {3, 2, 0, true}, {5, 3, 2, true}})
    for (const bool padding : {true, false}) {
      const Shape small = g.output(large);
      const auto count = static_cast<std::size_t>(small.elements());
      const auto x = noise(231, 1), dy = noise(count, 2);
      std::vector<float> dx(231);
      backend->avg_pool_backward({g, padding, packed_view(dy.data(), small), packed_view(dx.data(), large)});
      CHECK(worst(x, dx, [&](const auto& v) {
              std::vector<float> y(count);
              backend->avg_pool_forward({g, padding, packed_view(v.data(), large), packed_view(y.data(), small)});
              return dot(y, dy);
            }) < 1e-4);
    }
}

TEST_CASE("adaptive average pool and resize") {
  const auto backend = frost::testing::make_test_backend();
  const Shape small{1, 4, 5, 3}, large{1, 7, 11, 3};
  {
    const auto x = noise(231, 1), dy = noise(60, 2);
    std::vector<float> dx(231);
    backend->adaptive_avg_pool_backward({packed_view(dy.data(), small), packed_view(dx.data(), large)});
    CHECK(worst(x, dx, [&](const auto& v) {
            std::vector<float> y(60);
            backend->adaptive_avg_pool_forward({packed_view(v.data(), large), packed_view(y.data(), small)});
            return dot(y, dy);
          }) < 1e-4);
  }
  for (const ResizeMode mode : {ResizeMode::nearest, ResizeMode::bilinear, ResizeMode::bilinear_corners}) {
    const auto x = noise(60, 3), dy = noise(231, 4);
    std::vector<float> dx(60);
    backend->resize_backward({mode, packed_view(dy.data(), large), packed_view(dx.data(), small)});
    CHECK(worst(x, dx, [&](const auto& v) {
            std::vector<float> y(231);
            backend->resize_forward({mode, packed_view(v.data(), small), packed_view(y.data(), large)});
            return dot(y, dy);
          }) < 2e-4);
  }
}

TEST_CASE("softmax, log-softmax and cross entropy") {
  const auto backend = frost::testing::make_test_backend();
  const Shape shape{4, 1, 1, 6};
  const auto x = noise(24, 1), dy = noise(24, 2);
  for (const bool log : {false, true}) {
    const auto forward = [&](const std::vector<float>& v) {
      std::vector<float> y(24);
      backend->softmax_forward({packed_view(v.data(), shape), packed_view(y.data(), shape), log});
      return y;
    };
    const auto y = forward(x);
    std::vector<float> dx(24);
    backend->softmax_backward(
        {packed_view(y.data(), shape), packed_view(dy.data(), shape), packed_view(dx.data(), shape), log});
    CHECK(worst(x, dx, [&](const auto& v) { return dot(forward(v), dy); }) < 3e-4);
  }
  const std::vector<std::int64_t> labels{0, 5, 2, 2};
  for (const float smoothing : {0.0f, 0.1f}) {
    std::vector<float> dlogits(24);
    const auto loss = [&](const std::vector<float>& v, float* gradient) {
      float value = 0;
      backend->cross_entropy({v.data(), labels.data(), 4, 6, smoothing, &value, gradient});
      return static_cast<double>(value);
    };
    loss(x, dlogits.data());
    CHECK(worst(x, dlogits, [&](const auto& v) { return loss(v, nullptr); }) < 1e-4);
  }
}
