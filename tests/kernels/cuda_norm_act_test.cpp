#include <doctest/doctest.h>

#include <cmath>

#include "kernels/cuda/kernels/channel_tiling.cuh"
#include "tests/golden/golden.h"
#include "tests/kernels/emulated_backend.h"
#include "tests/kernels/guarded.h"

// The CUDA kernels, emulated on the host, against the CPU's: norm_act_test.cpp compares those with plain loops in double.

using namespace frost;
using frost::golden::relative_error;
using frost::testing::Guarded;
using frost::testing::HostAccess;
using frost::testing::make_emulated_backend;
using frost::testing::randoms;

namespace {

const auto cpu = make_cpu_backend(), cuda_forwards = make_emulated_backend(false, HostAccess::open),
           cuda_backwards = make_emulated_backend(true, HostAccess::open);

struct Case {
  Shape shape;
  ActivationKind kind = ActivationKind::silu;
  DType dtype = DType::f32;
  std::int64_t before = 0, after = 0;  // channels of neighbours in the views
  bool batch = true, residual = false, in_front = false, in_place = false, wanted_weights = true;
};

struct Results {
  std::vector<float> mean, rstd, running_mean, running_var, y, dx, dresidual, dweight, dbias;
  bool intact = true;
  bool operator==(const Results&) const = default;
};

Results run(Backend& on, const Case& c, DType dtype) {
  const Shape& s = c.shape;
  // Values that every type holds, far enough from 0 that a sum of plain squares would lose digits.
  const auto narrow = [&](std::vector<float> v) { return Guarded(s, v, c.dtype).values(); };
  Guarded x(s, narrow(randoms(s.elements(), 1, 3.0f)), dtype, c.before, c.after);
  Guarded dy(s, narrow(randoms(s.elements(), 2)), dtype, c.after, c.before), r(s, narrow(randoms(s.elements(), 3)), dtype);
  Guarded y(s, dtype, c.before, c.after), dx(s, dtype, c.before, c.before), dr(s, dtype, 0, c.after);
  const auto weight = randoms(s.c, 4, 1, 0.3f), bias = randoms(s.c, 5);
  const auto channels = static_cast<std::size_t>(s.c);
  Results out;
  out.mean.assign(channels, 0.5f), out.rstd.assign(channels, 1.25f);
  out.running_mean.assign(channels, 0.1f), out.running_var.assign(channels, 2.0f);
  out.dweight.assign(channels, 2.0f), out.dbias.assign(channels, -3.0f);
  if (c.batch)
    on.batch_statistics({.x = x.view(),
                         .mean = out.mean.data(),
                         .rstd = out.rstd.data(),
                         .running_mean = out.running_mean.data(),
                         .running_var = out.running_var.data()});
  on.norm_act_backward({.x = x.view(),
                        .dy = dy.view(),
                        .weight = weight.data(),
                        .bias = bias.data(),
                        .mean = out.mean.data(),
                        .rstd = out.rstd.data(),
                        .activation = {c.kind, 0.1f},
                        .batch_statistics = c.batch,
                        .residual = c.in_front ? ConstView(r.view()) : ConstView{},
                        .dresidual = c.in_front ? dr.view() : View{},
                        .dx = c.in_place ? dy.view() : dx.view(),
                        .dweight = c.wanted_weights ? out.dweight.data() : nullptr,
                        .dbias = c.wanted_weights ? out.dbias.data() : nullptr});
  out.dx = c.in_place ? dy.values() : dx.values();
  if (c.in_front) out.dresidual = dr.values();
  on.norm_act_forward({.x = x.view(),
                       .weight = weight.data(),
                       .bias = bias.data(),
                       .mean = out.mean.data(),
                       .rstd = out.rstd.data(),
                       .activation = {c.kind, 0.1f},
                       .residual = c.residual || c.in_front ? ConstView(r.view()) : ConstView{},
                       .order = c.in_front ? ResidualOrder::before_activation : ResidualOrder::after_activation,
                       .y = c.in_place ? x.view() : y.view()});
  out.y = c.in_place ? x.values() : y.values();
  out.intact = x.intact() && dy.intact() && r.intact() && y.intact() && dx.intact() && dr.intact();
  return out;
}
void check_case(const Case& c) {
  CAPTURE(c.shape);
  CAPTURE(name_of(c.dtype));
  CAPTURE(static_cast<int>(c.kind));
  CAPTURE(c.before);
  const Results got = run(*cuda_forwards, c, c.dtype),
                want = run(*cpu, c, DType::f32);  // f32 also for f16, which the CPU does not have
  CHECK(got.intact);
  // Elements: sums run in another order, and results are rounded to their type. A dz before the norm is rounded too.
  const double exact = 3e-6, stored = c.dtype == DType::f32 ? 1e-5 : c.dtype == DType::bf16 ? 1.0 / 256 : 1.0 / 2048;
  CHECK(relative_error(got.mean, want.mean) < exact);
  CHECK(relative_error(got.rstd, want.rstd) < exact);
  CHECK(relative_error(got.running_mean, want.running_mean) < exact);
  CHECK(relative_error(got.running_var, want.running_var) < exact);
  CHECK(relative_error(got.y, want.y) < stored);
  CHECK(relative_error(got.dx, want.dx) < (c.in_front ? 4 : 1) * stored + exact);
  CHECK(relative_error(got.dweight, want.dweight) < (c.in_front ? stored : 2 * exact));
  CHECK(relative_error(got.dbias, want.dbias) < (c.in_front ? stored : 2 * exact));
  if (c.in_front) CHECK(relative_error(got.dresidual, want.dresidual) < stored);
  CHECK(run(*cuda_backwards, c, c.dtype) == got);  // no race: threads in the opposite order, the same bits
}

}  // namespace

TEST_CASE("cuda norm_act: equals the CPU's for every shape of block, type and width") {
  // Few channels with many pixels, columns that do not divide a block, several tiles, odd channels, a lone pixel.
  const Shape shapes[] = {{1, 1, 2, 1},  {1, 1, 1, 24},   {2, 5, 7, 3},   {2, 65, 33, 16}, {1, 31, 40, 32},
                          {3, 8, 9, 48}, {1, 40, 40, 64}, {1, 4, 5, 320}, {1, 3, 3, 1032}, {1, 7, 9, 61}};
  for (const Shape& s : shapes)
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
      for (const bool batch : {true, false}) {
        if (batch && s.pixels() < 2) continue;
        check_case({.shape = s, .dtype = dtype, .batch = batch});
        check_case({.shape = s, .dtype = dtype, .before = 8, .after = 16, .batch = batch, .residual = true});
      }
}

TEST_CASE("cuda norm_act: slices that are not aligned, in place, residuals, every activation") {
  using enum ActivationKind;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    check_case({.shape = {2, 6, 5, 24}, .dtype = dtype, .before = 3, .after = 1});
    check_case({.shape = {2, 6, 5, 24}, .dtype = dtype, .residual = true, .in_place = true});
    check_case({.shape = {2, 6, 5, 24}, .kind = relu, .dtype = dtype, .after = 8, .in_front = true});
    check_case({.shape = {2, 6, 5, 24}, .dtype = dtype, .batch = false, .wanted_weights = false});
    for (const ActivationKind kind : {identity, silu, relu, leaky_relu, hardswish, sigmoid, relu6, hardsigmoid})
      check_case({.shape = {1, 9, 9, 40}, .kind = kind, .dtype = dtype});
  }
}

TEST_CASE("cuda norm_act: statistics stay exact where the mean is far from 0") {
  const Shape s{1, 64, 64, 8};
  auto x = randoms(s.elements(), 7, 0.0f, 0.05f);
  for (auto& v : x) v += 1000;  // a step of f32 there is 6e-5; a plain f32 sum of squares would leave nothing
  std::vector<float> mean(8), rstd(8), want_mean(8), want_rstd(8);
  const ConstView view = packed_view(static_cast<const void*>(x.data()), s);
  cpu->batch_statistics({.x = view, .eps = 0, .mean = want_mean.data(), .rstd = want_rstd.data()});
  cuda_forwards->batch_statistics({.x = view, .eps = 0, .mean = mean.data(), .rstd = rstd.data()});
  CHECK(relative_error(mean, want_mean) < 1e-7);
  CHECK(relative_error(rstd, want_rstd) < 1e-6);
}

TEST_CASE("cuda norm_act: nothing, and not enough") {
  const std::vector<float> one(4, 1.0f);
  std::vector<float> out(4);
  const ConstView none = packed_view(static_cast<const void*>(one.data()), {0, 2, 2, 4});
  CHECK_THROWS_AS(cuda_forwards->batch_statistics({.x = none, .mean = out.data(), .rstd = out.data()}), Error);
  const ConstView pixel = packed_view(static_cast<const void*>(one.data()), {1, 1, 1, 4});
  const BatchStatistics lone{
      .x = pixel, .mean = out.data(), .rstd = out.data(), .running_mean = out.data(), .running_var = out.data()};
  CHECK_THROWS_AS(cuda_forwards->batch_statistics(lone), Error);
}

TEST_CASE("cuda columns: each item of each pixel has one thread, and blocks have something to do") {
  using frost::cuda::Columns;
  for (const std::int64_t pixels : {1, 31, 32, 33, 1000})
    for (const std::int64_t items : {1, 2, 6, 31, 32, 33, 40, 129}) {
      CAPTURE(pixels);
      CAPTURE(items);
      const Columns c = cuda::columns_of({1, 1, pixels, 8 * items}, 8, 20, 2);
      std::vector<int> seen(static_cast<std::size_t>(pixels * items), 0);
      for (std::int64_t block = 0; block < c.blocks(); ++block) {
        CHECK(c.pixels_of_chunk(c.chunk_of(block)) > 0);
        for (int thread = 0; thread < cuda::kThreads; ++thread)
          if (c.works(block, thread))
            cuda::walk_pixels<3>(
                c, block, thread, [](std::int64_t pixel) { return pixel; },
                [&](std::int64_t pixel, std::int64_t read) {
                  CHECK(read == pixel);
                  ++seen[static_cast<std::size_t>(pixel * items + c.item(block, thread))];
                });
      }
      CHECK(seen == std::vector<int>(seen.size(), 1));
    }
  for (const std::int64_t pixels : {(std::int64_t{1} << 31) - 1, std::int64_t{1} << 31, (std::int64_t{1} << 31) + 1}) {
    const Columns c = cuda::columns_of({1, 1, pixels, 16}, 8, 4 * 132, 4);
    CHECK(c.blocks() <= 4 * 132);
    CHECK((c.chunks - 1) * c.chunk < pixels);
    CHECK(c.chunks * c.chunk >= pixels);
    CHECK(c.first_pixel(c.blocks() - 1) + c.pixels_of_chunk(c.chunks - 1) == pixels);
  }
}
