#include "kernels/elementwise.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "kernels/backend.h"
#include "kernels/math/dropout.h"
#include "tests/golden/golden.h"
#include "tests/kernels/device.h"
#include "tests/kernels/guarded.h"

using namespace frost;
using frost::golden::relative_error;
using frost::testing::float_types;
using frost::testing::Guarded;
using frost::testing::randoms;
using frost::testing::rounded;
using frost::testing::to_whole_vectors;

namespace {

const auto backend = frost::testing::make_test_backend();

Shape shape_of(const golden::Tensor& t) {  // NCHW, or one row of values
  return t.shape.size() == 4 ? Shape{t.shape[0], t.shape[2], t.shape[3], t.shape[1]} : Shape{1, 1, 1, t.count()};
}
std::vector<float> values_of(const golden::Tensor& t) {
  const Shape s = shape_of(t);
  return golden::nhwc(t.f32(), s.n, s.c, s.h, s.w);
}
Guarded guarded(const golden::Tensor& t, std::int64_t before = 0, std::int64_t after = 0) {
  return Guarded(shape_of(t), values_of(t), DType::f32, before, after);
}

}  // namespace

TEST_CASE("activations: golden") {
  const std::pair<const char*, Activation> all[] = {{"silu", {.kind = ActivationKind::silu}},
                                                    {"relu", {.kind = ActivationKind::relu}},
                                                    {"leaky_relu", {.kind = ActivationKind::leaky_relu, .slope = 0.1f}},
                                                    {"hardswish", {.kind = ActivationKind::hardswish}},
                                                    {"sigmoid", {.kind = ActivationKind::sigmoid}}};
  for (const auto& [op, activation] : all) {
    const auto file = golden::load(std::string("ops_") + op);
    for (const std::string name : {"random", "special"})
      for (const std::int64_t extra : {0, 5}) {
        CAPTURE(op);
        CAPTURE(name);
        auto x = guarded(file.at(name + ".x"), extra, 1), dy = guarded(file.at(name + ".gy"), 1, extra);
        Guarded y(shape_of(file.at(name + ".y")), DType::f32, extra, extra),
            dx(shape_of(file.at(name + ".y")), DType::f32, 0, extra);
        backend->activation_forward({activation, x.view(), y.view()});
        backend->activation_backward({activation, x.view(), dy.view(), dx.view()});
        CHECK(relative_error(y.values(), values_of(file.at(name + ".y"))) < 5e-7);
        CHECK(relative_error(dx.values(), values_of(file.at(name + ".gx"))) < 5e-7);
        backend->activation_backward({activation, x.view(), dy.view(), dy.view()});  // in place
        CHECK(dy.values() == dx.values());
        CHECK((y.intact() && dx.intact() && dy.intact()));
      }
  }
}

TEST_CASE("mish: its definition, and backward is the derivative; slices, in place, bf16") {
  const auto mish = [](double z) { return z * std::tanh(std::log1p(std::exp(z))); };
  const std::vector<float> x{-20, -5, -1.25f, -0.5f, 0, 0.5f, 1, 3, 25};
  const Shape s{1, 1, 3, 3};
  for (const DType dtype : float_types(*backend))
    for (const std::int64_t extra : {0, 5}) {
      Guarded in(s, x, dtype, extra, 1), y(s, dtype, 0, extra), dy(s, std::vector<float>(9, 2.0f), dtype),
          dx(s, dtype, extra, 0);
      backend->activation_forward({{ActivationKind::mish}, in.view(), y.view()});
      backend->activation_backward({{ActivationKind::mish}, in.view(), dy.view(), dx.view()});
      backend->activation_backward({{ActivationKind::mish}, in.view(), dy.view(), dy.view()});
      const double tolerance = dtype == DType::f32 ? 1e-6 : 0x1p-7;
      for (std::size_t i = 0; i < x.size(); ++i) {
        CAPTURE(x[i]);
        const double z = x[i], h = 1e-5;
        CHECK(std::abs(y.values()[i] - mish(z)) <= tolerance * std::max(std::abs(mish(z)), 1e-2));
        CHECK(std::abs(dx.values()[i] - (mish(z + h) - mish(z - h)) / h) <= 2 * std::max(tolerance, 1e-6));
      }
      CHECK(dy.values() == dx.values());
      CHECK((y.intact() && dx.intact() && dy.intact()));
    }
}

TEST_CASE("relu6 and hardsigmoid: values and slopes, at their kinks too; slices, in place, bf16") {
  // hardsigmoid's results are sixths: 0.5 and 1 / 6 are not rounded further than the type does.
  const std::vector<float> x{-20, -3, -1.5f, 0, 1.5f, 3, 5, 6, 25};
  const Shape s{1, 1, 3, 3};
  struct Case {
    ActivationKind kind;
    std::vector<float> y, slope;
  };
  for (const Case& c : {Case{ActivationKind::relu6, {0, 0, 0, 0, 1.5f, 3, 5, 6, 6}, {0, 0, 0, 0, 1, 1, 1, 0, 0}},
                        Case{ActivationKind::hardsigmoid,
                             {0, 0, 0.25f, 0.5f, 0.75f, 1, 1, 1, 1},
                             {0, 0, 1.0f / 6, 1.0f / 6, 1.0f / 6, 0, 0, 0, 0}}})
    for (const DType dtype : float_types(*backend))
      for (const std::int64_t extra : {0, 5}) {
        Guarded in(s, x, dtype, extra, 1), y(s, dtype, 0, extra), dy(s, std::vector<float>(9, 2.0f), dtype),
            dx(s, dtype, extra, 0);
        backend->activation_forward({{c.kind}, in.view(), y.view()});
        backend->activation_backward({{c.kind}, in.view(), dy.view(), dx.view()});
        backend->activation_backward({{c.kind}, in.view(), dy.view(), dy.view()});
        const double tolerance = dtype == DType::f32 ? 1e-7 : 0x1p-8;
        for (std::size_t i = 0; i < x.size(); ++i) {
          CAPTURE(x[i]);
          CHECK(std::abs(y.values()[i] - c.y[i]) <= tolerance * c.y[i]);
          CHECK(std::abs(dx.values()[i] - 2 * c.slope[i]) <= tolerance * 2 * c.slope[i]);
        }
        CHECK(dy.values() == dx.values());
        CHECK((y.intact() && dx.intact() && dy.intact()));
      }
}

TEST_CASE("add: golden, in place, bf16") {
  const Shape s{2, 5, 7, 33};
  for (const DType dtype : float_types(*backend))
    for (const std::int64_t extra : {0, 3}) {
      const auto av = rounded(randoms(s.elements(), 1), dtype), bv = rounded(randoms(s.elements(), 2), dtype);
      auto want = av;
      for (std::size_t i = 0; i < want.size(); ++i) want[i] += bv[i];
      want = rounded(want, dtype);
      Guarded a(s, av, dtype, extra, 1), b(s, bv, dtype, 0, extra), y(s, dtype, extra, extra);
      backend->add({a.view(), b.view(), y.view()});
      CHECK(y.values() == want);
      backend->add({a.view(), b.view(), b.view()});
      CHECK(b.values() == want);
      CHECK((y.intact() && b.intact()));
    }
  const auto file = golden::load("ops_add");
  auto a = guarded(file.at("same.a")), b = guarded(file.at("same.b"));
  backend->add({a.view(), b.view(), a.view()});
  CHECK(relative_error(a.values(), values_of(file.at("same.y"))) < 1e-7);
}

TEST_CASE("mul: golden, same shape and one factor for each channel") {
  const auto file = golden::load("ops_mul");
  for (const std::string name : {"same", "per_channel"})
    for (const std::int64_t extra : {0, 3}) {
      CAPTURE(name);
      auto a = guarded(file.at(name + ".a"), extra, 1), b = guarded(file.at(name + ".b"), 0, extra),
           dy = guarded(file.at(name + ".gy"), extra, 0);
      Guarded y(shape_of(file.at(name + ".y")), DType::f32, 1, extra),
          da(shape_of(file.at(name + ".a")), DType::f32, extra, 0), db(shape_of(file.at(name + ".b")), DType::f32, extra, 2);
      backend->mul_forward({a.view(), b.view(), y.view()});
      backend->mul_backward({a.view(), b.view(), dy.view(), da.view(), db.view()});
      CHECK(relative_error(y.values(), values_of(file.at(name + ".y"))) < 1e-7);
      CHECK(relative_error(da.values(), values_of(file.at(name + ".ga"))) < 1e-7);
      CHECK(relative_error(db.values(), values_of(file.at(name + ".gb"))) < 5e-7);
      CHECK((y.intact() && da.intact() && db.intact()));
    }
  Guarded a({1, 2, 2, 4}), b({1, 1, 1, 3});
  CHECK_THROWS_WITH_AS(backend->mul_forward({a.view(), b.view(), a.view()}),
                       "mul: a is 1x2x2x4 f32, b is 1x1x1x3 f32; expected the same shape or one factor for each channel",
                       Error);
}

TEST_CASE("mul backward: a factor's gradient is the sum over its image, whatever channels and pitch") {
  for (const DType dtype : float_types(*backend))
    for (const std::int64_t channels : {1, 7, 33, 40, 64})
      for (const bool vectors : {false, true})
        for (const std::int64_t side : {1, 9}) {
          CAPTURE(name_of(dtype));
          CAPTURE(channels);
          const Shape s{2, side, side, channels}, one{2, 1, 1, channels};
          const auto av = rounded(randoms(s.elements(), 1), dtype), dyv = rounded(randoms(s.elements(), 2), dtype);
          const std::int64_t before = vectors ? 8 : 3, after = vectors ? to_whole_vectors(channels) : 1;
          Guarded a(s, av, dtype, before, after), dy(s, dyv, dtype, before, after), b(one, dtype), db(one, dtype, 1, 2);
          backend->mul_backward({a.view(), b.view(), dy.view(), {}, db.view()});
          std::vector<float> want;
          for (std::int64_t n = 0; n < 2; ++n)
            for (std::int64_t c = 0; c < channels; ++c) {
              double sum = 0;
              for (std::int64_t p = n * side * side; p < (n + 1) * side * side; ++p)
                sum += static_cast<double>(av[static_cast<std::size_t>(p * channels + c)]) *
                       static_cast<double>(dyv[static_cast<std::size_t>(p * channels + c)]);
              want.push_back(static_cast<float>(sum));
            }
          // f32: sums in double, in any order; 16 bits: one rounding, in relation to the largest
          CHECK(relative_error(db.values(), rounded(want, dtype)) < (dtype == DType::f32 ? 2e-7 : 0x1p-8));
          CHECK(db.intact());
        }
}

TEST_CASE("copy: concatenation into channel slices and back, golden") {
  const auto file = golden::load("ops_concat");
  Guarded y(shape_of(file.at("three.y")), DType::f32, 2, 3);
  auto dy = guarded(file.at("three.gy"));
  std::int64_t at = 0;
  for (const std::string part : {"a", "b", "c"}) {
    auto x = guarded(file.at("three." + part));
    const Shape s = shape_of(file.at("three." + part));
    backend->copy({x.view(), y.view().channels(at, s.c)});
    Guarded dx(s, DType::f32, 1, 0);
    backend->copy({dy.view().channels(at, s.c), dx.view()});
    CHECK(dx.values() == values_of(file.at("three.g" + part)));
    CHECK(dx.intact());
    at += s.c;
  }
  CHECK(y.values() == values_of(file.at("three.y")));
  CHECK(y.intact());
}

TEST_CASE("copy: conversions between every pair of types") {
  const Shape s{1, 3, 5, 7};
  const auto values = randoms(s.elements(), 1);
  for (const DType from : {DType::f32, DType::bf16, DType::f16})
    for (const DType to : {DType::f32, DType::bf16, DType::f16})
      for (const std::int64_t extra : {0, 4}) {
        CAPTURE(name_of(from));
        CAPTURE(name_of(to));
        const Guarded x(s, values, from, extra, 1);
        Guarded y(s, to, 0, extra);
        backend->copy({x.view(), y.view()});
        CHECK(y.values() == Guarded(s, x.values(), to).values());  // the scalar conversion, which math_test checks
        CHECK(y.intact());
      }
  Guarded bytes(s, DType::u8), floats(s);
  CHECK_THROWS_AS(backend->copy({bytes.view(), floats.view()}), Error);
}

TEST_CASE("zero_pad: border of zeros, and its crop") {
  const Shape small{2, 3, 4, 5}, large{2, 3 + 1 + 4, 4 + 2 + 3, 5};
  for (const DType dtype : float_types(*backend))
    for (const std::int64_t extra : {0, 3}) {
      const auto values = rounded(randoms(small.elements(), 1), dtype);
      Guarded x(small, values, dtype, extra, 0), y(large, dtype, 1, extra), back(small, dtype, extra, 1);
      backend->zero_pad_forward({x.view(), y.view(), 2, 3, 1, 4});
      const auto padded = y.values();
      std::size_t zeros = 0, at = 0;
      for (std::int64_t n = 0; n < large.n; ++n)
        for (std::int64_t h = 0; h < large.h; ++h)
          for (std::int64_t w = 0; w < large.w; ++w)
            for (std::int64_t c = 0; c < large.c; ++c, ++at) {
              const std::int64_t sh = h - 1, sw = w - 2;
              const bool inside = sh >= 0 && sh < small.h && sw >= 0 && sw < small.w;
              zeros += !inside;
              CHECK(padded[at] ==
                    (inside ? values[static_cast<std::size_t>(((n * small.h + sh) * small.w + sw) * small.c + c)] : 0.0f));
            }
      CHECK(zeros == static_cast<std::size_t>(large.elements() - small.elements()));
      backend->zero_pad_backward({y.view(), back.view(), 2, 3, 1, 4});
      CHECK(back.values() == values);
      CHECK((y.intact() && back.intact()));
    }
}

TEST_CASE("space_to_depth: Focus' order of blocks, and back") {
  const Shape wide{2, 6, 8, 3}, deep{2, 3, 4, 12};
  for (const DType dtype : {DType::f32, DType::bf16, DType::u8})
    for (const std::int64_t extra : {0, 2}) {
      std::vector<float> values(static_cast<std::size_t>(wide.elements()));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251);
      Guarded x(wide, values, dtype, extra, 0), y(deep, dtype, 0, extra), back(wide, dtype, 1, extra);
      backend->space_to_depth({x.view(), y.view()});
      const auto got = y.values();
      const std::pair<int, int> parity[] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}};  // (row, column) of each block
      std::size_t at = 0;
      for (std::int64_t n = 0; n < deep.n; ++n)
        for (std::int64_t h = 0; h < deep.h; ++h)
          for (std::int64_t w = 0; w < deep.w; ++w)
            for (const auto& [row, column] : parity)
              for (std::int64_t c = 0; c < wide.c; ++c, ++at)
                CHECK(got[at] ==
                      values[static_cast<std::size_t>(((n * wide.h + 2 * h + row) * wide.w + 2 * w + column) * wide.c + c)]);
      backend->depth_to_space({y.view(), back.view()});
      CHECK(back.values() == values);
      CHECK((y.intact() && back.intact()));
    }
}

TEST_CASE("normalize_image: every byte over 255") {
  const Shape s{1, 16, 16, 1};
  std::vector<float> bytes(256);
  for (std::size_t i = 0; i < 256; ++i) bytes[i] = static_cast<float>(i);
  for (const DType dtype : float_types(*backend)) {
    Guarded x(s, bytes, DType::u8), y(s, dtype, 0, 2);
    backend->normalize_image({x.view(), y.view()});
    auto want = bytes;
    for (auto& v : want) v = v / 255.0f;
    CHECK(y.values() == rounded(want, dtype));
    CHECK(y.intact());
  }
}

TEST_CASE("dropout: each choice belongs to the layer's seed, the step's and the place, whatever the pitch") {
  const Shape s{2, 3, 5, 7};
  const std::uint64_t layer = 0x9e3779b97f4a7c15ULL, step = 0x0123456789abcdefULL;
  const float p = 0.3f;
  struct Margins {
    std::int64_t x_after, y_before, y_after;
  };
  for (const DType dtype : float_types(*backend))
    for (const Margins& m : {Margins{2, 1, 0}, Margins{0, 0, 0}, Margins{1, 8, 1}})  // values, a row, vectors with tails
      for (const std::uint64_t* step_seed : {static_cast<const std::uint64_t*>(nullptr), &step}) {
        CAPTURE(name_of(dtype));
        CAPTURE(m.x_after);
        const std::vector<float> values = rounded(randoms(s.elements(), 1), dtype);
        const Guarded x(s, values, dtype, 0, m.x_after);
        Guarded y(s, dtype, m.y_before, m.y_after);
        backend->dropout({.p = p, .seed = layer, .step_seed = step_seed, .x = x.view(), .y = y.view()});
        std::vector<float> want;
        for (std::size_t i = 0; i < values.size(); ++i)
          want.push_back(math::dropout(values[i], p, step_seed ? layer ^ step : layer, i));
        CHECK(y.values() == rounded(want, dtype));
        CHECK(y.intact());
        const auto dropped = std::count(want.begin(), want.end(), 0.0f);
        CHECK(std::abs(static_cast<double>(dropped) / 210 - 0.3) < 0.13);  // four deviations of 210 draws
      }
}
