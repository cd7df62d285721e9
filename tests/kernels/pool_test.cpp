#include "kernels/pool.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/backend.h"
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

/// One golden case: x, y, gy, gx as NHWC values with their shapes.
struct GoldenCase {
  Shape in, out;
  std::vector<float> x, y, gy, gx;
  nlohmann::json attributes;
  GoldenCase(const golden::File& file, const std::string& name) : attributes(file.fact_json(name + ".attributes")) {
    const auto shape = [&](const std::string& key) {
      const auto& d = file.at(name + key).shape;
      return Shape{d[0], d[2], d[3], d[1]};
    };
    const auto values = [&](const std::string& key, Shape s) {
      return golden::nhwc(file.at(name + key).f32(), s.n, s.c, s.h, s.w);
    };
    in = shape(".x"), out = shape(".y");
    x = values(".x", in), gx = values(".gx", in), y = values(".y", out), gy = values(".gy", out);
  }
};

/// Max pooling as its definition reads: the window's first maximum in row-major order takes the gradient.
void reference_max_pool(PoolGeometry g, Shape in, const std::vector<float>& x, const std::vector<float>& dy,
                        std::vector<float>& y, std::vector<float>& dx) {
  const Shape out = g.output(in);
  y.assign(static_cast<std::size_t>(out.elements()), 0), dx.assign(x.size(), 0);
  std::size_t o = 0;
  for (std::int64_t n = 0; n < out.n; ++n)
    for (std::int64_t h = 0; h < out.h; ++h)
      for (std::int64_t w = 0; w < out.w; ++w)
        for (std::int64_t c = 0; c < out.c; ++c, ++o) {
          float best = -std::numeric_limits<float>::infinity();
          std::size_t at = 0;
          for (std::int64_t i = h * g.stride - g.pad; i < h * g.stride - g.pad + g.kernel; ++i)
            for (std::int64_t k = w * g.stride - g.pad; k < w * g.stride - g.pad + g.kernel; ++k) {
              if (i < 0 || i >= in.h || k < 0 || k >= in.w) continue;
              const auto here = static_cast<std::size_t>(((n * in.h + i) * in.w + k) * in.c + c);
              if (x[here] > best) best = x[here], at = here;
            }
          y[o] = best;
          dx[at] += dy[o];
        }
}

void check_max_pool(PoolGeometry g, Shape in, DType dtype, std::int64_t before, std::int64_t after, bool ties) {
  CAPTURE(in);
  CAPTURE(g.kernel);
  CAPTURE(g.stride);
  CAPTURE(before);
  const Shape out = g.output(in);
  auto x = rounded(randoms(in.elements(), 1), dtype), dy = rounded(randoms(out.elements(), 2), dtype);
  if (ties)
    for (auto& v : x) v = std::round(v);  // about five different values: every window has several maxima
  std::vector<float> y, dx;
  reference_max_pool(g, in, x, dy, y, dx);
  const bool vectors = (before + in.c + after) % 8 == 0;  // then in all four
  Guarded gx(in, x, dtype, before, after), gy(out, dtype, vectors ? before : after, vectors ? after : before),
      gdy(out, dy, dtype, before, vectors ? after : 0), gdx(in, dtype, vectors ? before : 0, after);
  backend->max_pool_forward({g, gx.view(), gy.view()});
  backend->max_pool_backward({g, gx.view(), gdy.view(), gdx.view()});
  CHECK(gy.values() == y);
  CHECK(relative_error(gdx.values(), dx) < (dtype == DType::f32 ? 5e-7 : 0x1p-8));  // sums of up to kernel^2 values
  for (const auto* t : {&gx, &gy, &gdy, &gdx}) CHECK(t->intact());
}

}  // namespace

TEST_CASE("max_pool: golden, ties too") {
  const auto file = golden::load("ops_max_pool2d");
  for (const std::string name :
       {"k5s1p2", "k9s1p4", "k13s1p6", "k3s2p1", "k2s2p0", "k2s1p0", "ties_k5s1p2", "ties_k3s2p1"}) {
    CAPTURE(name);
    const GoldenCase t(file, name);
    const PoolGeometry g{t.attributes["kernel"], t.attributes["stride"], t.attributes["padding"]};
    REQUIRE(g.output(t.in) == t.out);
    Guarded x(t.in, t.x), y(t.out), dy(t.out, t.gy), dx(t.in);
    backend->max_pool_forward({g, x.view(), y.view()});
    backend->max_pool_backward({g, x.view(), dy.view(), dx.view()});
    CHECK(y.values() == t.y);
    CHECK(relative_error(dx.values(), t.gx) < 5e-7);
  }
}

TEST_CASE("max_pool: any geometry, channels, slice and type against the definition") {
  for (const PoolGeometry g : {PoolGeometry{5, 1, 2},
                               {2, 2, 0},
                               {3, 2, 1},
                               {2, 1, 0},
                               {1, 1, 0},
                               {3, 3, 0},
                               {4, 3, 2},
                               {9, 1, 4},
                               {13, 1, 6},
                               {2, 2, 0, true},
                               {3, 2, 1, true},
                               {3, 3, 1, true},
                               {5, 4, 0, true},
                               {2, 5, 1, true}})
    for (const Shape in : {Shape{2, 13, 14, 3}, Shape{1, 14, 13, 33}, Shape{1, 13, 13, 16}})
      for (const DType dtype : float_types(*backend))
        for (const bool ties : {false, true}) {
          check_max_pool(g, in, dtype, 0, 0, ties);
          check_max_pool(g, in, dtype, 7, 2, ties);
          check_max_pool(g, in, dtype, 8, to_whole_vectors(in.c), ties);
        }
  check_max_pool({5, 1, 2}, {1, 1, 1, 1}, DType::f32, 0, 0, false);
  check_max_pool({3, 2, 1}, {2, 61, 67, 255}, DType::f32, 0, 1, true);  // more than one block of channels
}

TEST_CASE("max_pool: ceil_mode counts windows as PyTorch does") {
  const auto windows = [](PoolGeometry g, std::int64_t size) { return g.output({1, size, size, 1}).h; };
  CHECK(windows({2, 2, 0, false}, 7) == 3);
  CHECK(windows({2, 2, 0, true}, 7) == 4);
  CHECK(windows({2, 2, 0, true}, 8) == 4);
  CHECK(windows({3, 2, 1, true}, 6) == 4);
  CHECK(windows({3, 2, 1, false}, 6) == 3);
  CHECK(windows({2, 3, 1, true}, 2) == 1);  // a second window would begin after the image and its padding
  CHECK(windows({3, 2, 0, true}, 112) == 56);
}

TEST_CASE("max_pool: NaN comes through; mistakes are named") {
  for (std::size_t at = 0; at < 9; ++at) {
    auto values = randoms(9, 1);
    values[at] = std::nanf("");
    Guarded x({1, 3, 3, 1}, values), y({1, 1, 1, 1});
    backend->max_pool_forward({{3, 1, 0}, x.view(), y.view()});
    CHECK(std::isnan(y.values()[0]));
  }
  Guarded x({1, 4, 4, 2}), y({1, 3, 2, 2});
  CHECK_THROWS_WITH_AS(backend->max_pool_forward({{2, 2, 0}, x.view(), y.view()}),
                       "max pool: x of 1x4x4x2 does not give y of 1x3x2x2", Error);
}

TEST_CASE("max_pool: windows without a pixel, and those whose pixels 16 bits cannot number, are refused") {
  Guarded x({1, 300, 300, 1}), y({1, 1, 1, 1});
  const std::vector<PoolGeometry> refused{{2, 2, 2},    {2, 2, 4}, {3, 1, 2}, {257, 1, 0},
                                          {4096, 1, 0}, {0, 1, 0}, {2, 0, 0}, {2, 1, -1}};
  for (const PoolGeometry& g : refused) {
    CAPTURE(g.kernel);
    CHECK_THROWS_WITH_AS(backend->max_pool_forward({g, x.view(), y.view()}), doctest::Contains("max pool: kernel "), Error);
    CHECK_THROWS_WITH_AS(backend->max_pool_backward({g, x.view(), y.view(), x.view()}),
                         doctest::Contains("max pool backward: kernel "), Error);
  }
}
TEST_CASE("max_pool: the largest kernel, its maximum in the window's last pixel") {
  const Shape in{1, 257, 256, 1}, out{1, 2, 1, 1};
  std::vector<float> values(static_cast<std::size_t>(in.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  Guarded x(in, values), y(out), dy(out, std::vector<float>{2, 3}), dx(in);
  const PoolGeometry g{PoolGeometry::kLargest, 1, 0};
  backend->max_pool_forward({g, x.view(), y.view()});
  CHECK(y.values() == std::vector<float>{65535, 65791});
  backend->max_pool_backward({g, x.view(), dy.view(), dx.view()});
  std::vector<float> expected(values.size(), 0.0f);
  expected[65535] = 2, expected[65791] = 3;
  CHECK(dx.values() == expected);
}

TEST_CASE("avg_pool: any geometry, channels, slice and type against the definition") {
  for (const PoolGeometry g :
       {PoolGeometry{3, 1, 1}, {2, 2, 0}, {3, 2, 1}, {5, 3, 2}, {1, 1, 0}, {3, 2, 1, true}, {2, 5, 1, true}})
    for (const Shape in : {Shape{2, 13, 14, 3}, Shape{1, 14, 13, 33}, Shape{1, 13, 13, 16}, Shape{1, 3, 3, 5}})
      for (const bool padding : {true, false})
        for (const DType dtype : float_types(*backend))
          for (const auto& [before, after] :
               {std::pair<std::int64_t, std::int64_t>{0, 0}, {7, 2}, {8, to_whole_vectors(in.c)}}) {
            CAPTURE(in);
            CAPTURE(g.kernel);
            CAPTURE(padding);
            const Shape out = g.output(in);
            const auto x = rounded(randoms(in.elements(), 1), dtype), dy = rounded(randoms(out.elements(), 2), dtype);
            std::vector<double> y(static_cast<std::size_t>(out.elements())), dx(x.size());
            std::size_t o = 0;
            for (std::int64_t n = 0; n < out.n; ++n)
              for (std::int64_t h = 0; h < out.h; ++h)
                for (std::int64_t w = 0; w < out.w; ++w)
                  for (std::int64_t c = 0; c < out.c; ++c, ++o) {
                    // The image with its padding, zeros around it; beyond that nothing is counted.
                    std::vector<std::size_t> inside;
                    double counted = 0;
                    for (std::int64_t i = h * g.stride; i < h * g.stride + g.kernel; ++i)
                      for (std::int64_t k = w * g.stride; k < w * g.stride + g.kernel; ++k) {
                        if (i >= in.h + 2 * g.pad || k >= in.w + 2 * g.pad) continue;
                        const std::int64_t r = i - g.pad, q = k - g.pad;
                        const bool pixel = r >= 0 && r < in.h && q >= 0 && q < in.w;
                        counted += pixel || padding;
                        if (pixel) inside.push_back(static_cast<std::size_t>(((n * in.h + r) * in.w + q) * in.c + c));
                      }
                    for (const std::size_t at : inside) y[o] += x[at] / counted, dx[at] += dy[o] / counted;
                  }
            Guarded gx(in, x, dtype, before, after), gy(out, dtype, before, after), gdy(out, dy, dtype, before, after),
                gdx(in, dtype, before, after);
            backend->avg_pool_forward({g, padding, gx.view(), gy.view()});
            backend->avg_pool_backward({g, padding, gdy.view(), gdx.view()});
            const double tolerance = dtype == DType::f32 ? 5e-7 : 0x1p-8;
            CHECK(relative_error(gy.values(), y) < tolerance);
            CHECK(relative_error(gdx.values(), dx) < tolerance);
            for (const auto* t : {&gx, &gy, &gdy, &gdx}) CHECK(t->intact());
          }
  Guarded x({1, 4, 4, 2}), y({1, 3, 2, 2});
  CHECK_THROWS_WITH_AS(backend->avg_pool_forward({{2, 2, 0}, true, x.view(), y.view()}),
                       "average pool: x of 1x4x4x2 does not give y of 1x3x2x2", Error);
  CHECK_THROWS_WITH_AS(backend->avg_pool_backward({{2, 1, 2}, true, y.view(), x.view()}),
                       doctest::Contains("average pool backward: kernel "), Error);
}

TEST_CASE("adaptive_avg_pool: golden, slices, bf16") {
  const auto file = golden::load("ops_adaptive_avg_pool2d");
  for (const std::string name : {"to1", "to7_from2", "to7_from10x9"})
    for (const DType dtype : float_types(*backend))
      for (const std::int64_t extra : {0, 3}) {
        CAPTURE(name);
        const GoldenCase t(file, name);
        const double tolerance = dtype == DType::f32 ? 5e-7 : 0x1p-7;  // bf16: x and y are rounded
        Guarded x(t.in, t.x, dtype, extra, 0), y(t.out, dtype, 0, extra), dy(t.out, t.gy, dtype, extra, extra),
            dx(t.in, dtype, extra, 1);
        backend->adaptive_avg_pool_forward({x.view(), y.view()});
        backend->adaptive_avg_pool_backward({dy.view(), dx.view()});
        CHECK(relative_error(y.values(), t.y) < tolerance);
        CHECK(relative_error(dx.values(), t.gx) < tolerance);
        CHECK((y.intact() && dx.intact()));
      }
}

TEST_CASE("resize: golden nearest and bilinear, slices, bf16") {
  const auto file = golden::load("ops_upsample");
  for (const std::string name : {"nearest_x2", "bilinear_x2", "bilinear_to_5x13"})
    for (const DType dtype : float_types(*backend))
      for (const std::int64_t extra : {0, 3}) {
        CAPTURE(name);
        const GoldenCase t(file, name);
        const double tolerance = dtype == DType::f32 ? 5e-7 : 0x1p-7;
        const auto mode = t.attributes["mode"] == "nearest" ? ResizeMode::nearest : ResizeMode::bilinear;
        Guarded x(t.in, t.x, dtype, extra, 0), y(t.out, dtype, 0, extra), dy(t.out, t.gy, dtype, extra, extra),
            dx(t.in, dtype, extra, 1);
        backend->resize_forward({mode, x.view(), y.view()});
        backend->resize_backward({mode, dy.view(), dx.view()});
        CHECK(relative_error(y.values(), t.y) < tolerance);
        CHECK(relative_error(dx.values(), t.gx) < tolerance);
        CHECK((y.intact() && dx.intact()));
      }
}

TEST_CASE("resize: aligned corners against the definition") {
  const Shape in{1, 3, 4, 2};
  const std::vector<float> values = randoms(in.elements(), 3);
  for (const Shape out : {Shape{1, 6, 8, 2}, Shape{1, 5, 7, 2}, Shape{1, 1, 4, 2}, Shape{1, 2, 2, 2}, Shape{1, 3, 4, 2}}) {
    CAPTURE(out);
    Guarded x(in, values), y(out);
    backend->resize_forward({ResizeMode::bilinear_corners, x.view(), y.view()});
    const auto got = y.values();
    const auto at = [&](std::int64_t h, std::int64_t w, std::int64_t c) {
      return double(values[static_cast<std::size_t>((h * in.w + w) * in.c + c)]);
    };
    std::size_t i = 0;
    for (std::int64_t h = 0; h < out.h; ++h)
      for (std::int64_t w = 0; w < out.w; ++w)
        for (std::int64_t c = 0; c < out.c; ++c) {
          const double r = out.h > 1 ? double(h) * (in.h - 1) / (out.h - 1) : 0,
                       k = out.w > 1 ? double(w) * (in.w - 1) / (out.w - 1) : 0;
          const auto r0 = std::min<std::int64_t>(std::int64_t(r), in.h - 2),
                     k0 = std::min<std::int64_t>(std::int64_t(k), in.w - 2);
          const double a = r - double(r0), b = k - double(k0);
          const double want = (1 - a) * ((1 - b) * at(r0, k0, c) + b * at(r0, k0 + 1, c)) +
                              a * ((1 - b) * at(r0 + 1, k0, c) + b * at(r0 + 1, k0 + 1, c));
          CHECK(got[i++] == doctest::Approx(want).epsilon(1e-5));
        }
    CHECK(y.intact());
  }
}

TEST_CASE("resize and adaptive_avg_pool: backward is the transpose of forward, at uneven sizes") {
  const Shape in{2, 7, 9, 33};
  for (const Shape out : {Shape{2, 5, 13, 33}, Shape{2, 14, 18, 33}, Shape{2, 1, 1, 33}, Shape{2, 3, 4, 33}}) {
    CAPTURE(out);
    Guarded x(in, randoms(in.elements(), 1)), y(out), dy(out, randoms(out.elements(), 2)), dx(in);
    const auto products_agree = [&] {  // <y, dy> = <x, dx> for every linear map
      double left = 0, right = 0, scale = 0;
      const auto yv = y.values(), dyv = dy.values(), xv = x.values(), dxv = dx.values();
      for (std::size_t i = 0; i < yv.size(); ++i) left += double(yv[i]) * dyv[i], scale += std::abs(double(yv[i]) * dyv[i]);
      for (std::size_t i = 0; i < xv.size(); ++i) right += double(xv[i]) * dxv[i];
      return std::abs(left - right) < 1e-6 * scale;
    };
    for (const auto mode : {ResizeMode::nearest, ResizeMode::bilinear, ResizeMode::bilinear_corners}) {
      backend->resize_forward({mode, x.view(), y.view()});
      backend->resize_backward({mode, dy.view(), dx.view()});
      CHECK(products_agree());
    }
    backend->resize_forward({ResizeMode::nearest, x.view(), y.view()});
    const auto xv = x.values(), yv = y.values();
    const auto at = [](const std::vector<float>& v, Shape s, std::int64_t h, std::int64_t w) {
      return v[static_cast<std::size_t>((h * s.w + w) * s.c + 5)];
    };
    for (std::int64_t h = 0; h < out.h; ++h)
      for (std::int64_t w = 0; w < out.w; ++w) CHECK(at(yv, out, h, w) == at(xv, in, h * in.h / out.h, w * in.w / out.w));
    backend->adaptive_avg_pool_forward({x.view(), y.view()});
    backend->adaptive_avg_pool_backward({dy.view(), dx.view()});
    CHECK(products_agree());
  }
}
