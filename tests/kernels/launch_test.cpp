#include "kernels/cuda/kernels/launch.cuh"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/cuda/kernels/resize.cuh"
#include "kernels/cuda/kernels/vector_access.cuh"
#include "kernels/cuda/runtime/usable.h"
#include "tests/kernels/mirror.h"

// The plain code around CUDA's kernels: launch geometry, vector widths, index arithmetic, and the loader's reasons.
using namespace frost;
using namespace frost::cuda;

namespace {

constexpr std::int64_t k31 = std::int64_t{1} << 31;
constexpr std::int64_t kSizes[] = {1, 31, 32, 33, 255, 256, 257, k31 - 1, k31, k31 + 1, 3 * k31 + 7};

/// A view of an address that is never followed.
ConstView at(std::uintptr_t address, DType type, std::int64_t channels, std::int64_t pitch) {
  return {reinterpret_cast<const void*>(address), {1, 2, 3, channels}, type, pitch};
}

}  // namespace

TEST_CASE("grid_size: one item a thread, no more blocks than wanted, never none") {
  CHECK(grid_size(0, 100) == 1);
  CHECK(grid_size(1, 100) == 1);
  CHECK(grid_size(31, 100, 32) == 1);
  CHECK(grid_size(32, 100, 32) == 1);
  CHECK(grid_size(33, 100, 32) == 2);
  CHECK(grid_size(256, 100) == 1);
  CHECK(grid_size(257, 100) == 2);
  CHECK(grid_size(k31, 4224) == 4224);
  CHECK(grid_size(k31 - 1, kMaxGrid) == k31 / 256);
  CHECK(grid_size(256 * (k31 + 5), 4 * kMaxGrid) == kMaxGrid);  // the grid's own limit
  CHECK(grid_size(INT64_MAX, kMaxGrid, 1) == kMaxGrid);         // no overflow on the way
  // Every item is walked exactly once, whatever the grid: the loop of over_items.
  for (const std::int64_t items : {1, 31, 32, 33, 1000})
    for (const std::int64_t most : {1, 2, 7}) {
      std::vector<int> hits(static_cast<std::size_t>(items));
      const std::int64_t blocks = grid_size(items, most, 32), step = blocks * 32;
      for (std::int64_t thread = 0; thread < step; ++thread)
        for (std::int64_t i = thread; i < items; i += step) ++hits[static_cast<std::size_t>(i)];
      CHECK(hits == std::vector<int>(hits.size(), 1));
    }
}

TEST_CASE("Divider: quotients and remainders on both sides of 2^31") {
  std::mt19937_64 random(1);
  std::vector<std::int64_t> divisors{1,   2,     3,     5,     7,       31,  32,      33,     255,
                                     641, 65535, 65536, 65537, k31 - 1, k31, k31 + 1, 5 * k31};
  for (int i = 0; i < 200; ++i)
    divisors.push_back(1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(k31)));
  for (const std::int64_t d : divisors) {
    const Divider by(d);
    std::vector<std::int64_t> dividends{
        0, 1, d - 1, d, d + 1, k31 - 2, k31 - 1, k31, k31 + 1, std::int64_t{1} << 40, INT64_MAX / 2};
    for (int i = 0; i < 500; ++i) dividends.push_back(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(k31)));
    for (std::int64_t multiple = d; multiple < k31; multiple = 3 * multiple) {  // where an error of one shows
      dividends.push_back(multiple), dividends.push_back(multiple - 1);
      const std::int64_t last = (k31 - 1) / d * d;
      dividends.push_back(last), dividends.push_back(last > 0 ? last - 1 : 0);
    }
    for (const std::int64_t n : dividends) {
      const auto [quotient, remainder] = divide(n, by);
      if (quotient != n / d || remainder != n % d) FAIL(n, " / ", d, " gave ", quotient, " rest ", remainder);
    }
  }
  CHECK_THROWS_AS(Divider(0), Error);
}

TEST_CASE("access_width: 16 bytes or one value, by addresses, pitches and, without tails, channels") {
  const std::uintptr_t base = 4096;
  const auto widths = [](std::initializer_list<ConstView> views) {
    return std::pair{access_width(views), access_width(views, Tails::none)};
  };
  using Pair = std::pair<int, int>;
  CHECK(widths({at(base, DType::f32, 64, 64)}) == Pair{4, 4});
  CHECK(widths({at(base, DType::f16, 64, 64)}) == Pair{8, 8});
  CHECK(widths({at(base, DType::u8, 64, 64)}) == Pair{16, 16});
  CHECK(widths({at(base, DType::f64, 64, 64)}) == Pair{2, 2});
  CHECK(widths({at(base, DType::f16, 255, 256)}) == Pair{8, 1});  // a tail of channels
  CHECK(widths({at(base, DType::f16, 252, 256)}) == Pair{8, 1});
  CHECK(widths({at(base, DType::f16, 255, 255)}) == Pair{1, 1});    // an odd pitch
  CHECK(widths({at(base, DType::f16, 4, 12)}) == Pair{1, 1});       // one of half vectors
  CHECK(widths({at(base + 16, DType::f16, 8, 64)}) == Pair{8, 8});  // a slice that begins at channel 8
  for (const std::uintptr_t odd : {1, 2, 4, 8, 12, 15})             // 8: at channel 4
    CHECK(widths({at(base + odd, DType::f16, 8, 64)}) == Pair{1, 1});
  CHECK(widths({at(base, DType::f16, 8, 8), at(base, DType::f32, 8, 8)}) == Pair{4, 4});      // the wider type decides:
  CHECK(widths({at(base + 8, DType::f16, 8, 8), at(base, DType::f32, 8, 8)}) == Pair{4, 4});  // 8 bytes of the other
  CHECK(widths({at(base + 4, DType::f16, 8, 8), at(base, DType::f32, 8, 8)}) == Pair{1, 1});
  CHECK(widths({at(base, DType::f16, 8, 8), at(base + 4, DType::f32, 8, 8)}) == Pair{1, 1});
  CHECK(widths({at(base, DType::f16, 8, 8), at(base, DType::f32, 8, 10)}) == Pair{1, 1});
  CHECK(widths({at(base, DType::f16, 8, 8), ConstView{}}) == Pair{8, 8});  // what is not there
  CHECK((aligned(reinterpret_cast<const void*>(base + 48)) && !aligned(reinterpret_cast<const void*>(base + 8))));
  // The constant that kernels are made with.
  const auto constant = [](auto type, std::initializer_list<ConstView> views, Tails tails) {
    int width = 0;
    with_width<decltype(type)>(views, tails, [&](auto chosen) { width = chosen; });
    return width;
  };
  CHECK(constant(math::f16{}, {at(base, DType::f16, 255, 256)}, Tails::handled) == 8);
  CHECK(constant(math::f16{}, {at(base, DType::f16, 255, 256)}, Tails::none) == 1);
  CHECK(constant(0.0f, {at(base, DType::f16, 8, 8), at(base, DType::f32, 8, 8)}, Tails::none) == 4);
  CHECK(constant(0.0f, {ConstView{}}, Tails::none) == 4);
  CHECK_THROWS_AS(constant(math::f16{}, {at(base, DType::f32, 8, 8)}, Tails::none), Error);  // not the widest type
}

TEST_CASE("Items: every channel once, the last ones of a pixel in a shorter item") {
  CHECK((fits_int32(k31 - 1) && !fits_int32(k31)));
  for (const std::int64_t pixels : {1, 31, 32, 33})
    for (const std::int64_t channels : {1, 3, 8, 9, 31, 32, 33, 64})
      for (const int width : {1, 4, 8}) {
        const Items items({1, 1, pixels, channels}, width);
        std::vector<int> hits(static_cast<std::size_t>(pixels * channels));
        for (std::int64_t i = 0; i < items.count(); ++i) {
          const Place p = items.at(i);
          CHECK((p.count > 0 && p.count <= width && p.channel % width == 0));
          for (int j = 0; j < p.count; ++j) ++hits[static_cast<std::size_t>(p.pixel * channels + p.channel + j)];
        }
        CHECK(hits == std::vector<int>(hits.size(), 1));
      }
}

TEST_CASE("Items and Pixels: places beyond 2^31 items and elements") {
  for (const std::int64_t pixels : kSizes)
    for (const std::int64_t channels : {1, 31, 33}) {
      const Items items({1, 1, pixels, channels}, 8);
      const std::int64_t each = (channels + 7) / 8;
      CHECK(items.count() == pixels * each);
      for (const std::int64_t i : {std::int64_t{0}, items.count() / 2, items.count() - 1}) {
        const Place p = items.at(i);
        CHECK(p.pixel == i / each);
        CHECK(p.channel == i % each * 8);
      }
    }
  const Shape huge{70'000, 320, 320, 1};  // 7 billion pixels
  const Pixels walk(huge);
  const auto [n, h, w] = walk.at((std::int64_t{69'999} * 320 + 318) * 320 + 317);
  CHECK((n == 69'999 && h == 318 && w == 317));
  CHECK(Items({0, 4, 4, 8}, 8).count() == 0);
  CHECK(Items({1, 4, 4, 0}, 8).count() == 0);
}

TEST_CASE("lanes: packs of every width and tail, through every type") {
  for (int count = 0; count <= 8; ++count) {
    alignas(16) math::f16 from[8], to[8];
    for (int j = 0; j < 8; ++j) from[j] = math::from_float<math::f16>(static_cast<float>(j) + 0.5f), to[j] = {0x1234};
    const auto lanes = load<8>(from, count);
    for (int j = 0; j < 8; ++j) CHECK(lanes[j] == (j < count ? static_cast<float>(j) + 0.5f : 0.0f));
    store<8>(to, lanes, count);
    for (int j = 0; j < 8; ++j) CHECK(to[j].bits == (j < count ? from[j].bits : 0x1234));
    move<8>(from, to, count);
    fill<8>(to, math::f16{}, count);
    for (int j = 0; j < 8; ++j) CHECK(to[j].bits == (j < count ? 0 : 0x1234));
  }
}

TEST_CASE("resize: the outputs that backward gathers from hold all that read an input") {
  const auto check = [](const auto& axis) {
    std::vector<double> given(static_cast<std::size_t>(axis.in)), taken(given.size());
    for (std::int64_t i = 0; i < axis.out; ++i) {
      const auto tap = axis.tap(i);
      REQUIRE((tap.low >= 0 && tap.high < axis.in && tap.low <= tap.high));
      given[static_cast<std::size_t>(tap.low)] += 1 - tap.fraction;
      given[static_cast<std::size_t>(tap.high)] += tap.fraction;
    }
    for (std::int64_t source = 0; source < axis.in; ++source)
      for (std::int64_t i = axis.first(source); i < axis.end(source); ++i)
        taken[static_cast<std::size_t>(source)] += axis.weight(i, source);
    for (std::size_t k = 0; k < given.size(); ++k) CHECK(std::abs(given[k] - taken[k]) < 1e-5 * (1 + given[k]));
  };
  for (std::int64_t in = 1; in < 24; ++in)
    for (std::int64_t out = 1; out < 50; ++out) {
      check(ResizeAxis<ResizeMode::nearest>(in, out));
      check(ResizeAxis<ResizeMode::bilinear>(in, out));
      check(ResizeAxis<ResizeMode::bilinear_corners>(in, out));
    }
}

TEST_CASE("CUDA's reasons: each names what is missing") {
  const MachineFacts good{.driver_cuda = 13000,
                          .runtime_cuda = 13000,
                          .devices = 2,
                          .wanted = 1,
                          .device_name = "NVIDIA H100 80GB HBM3",
                          .capability = 90,
                          .least_capability = 80,
                          .cudnn = 91900,
                          .cudnn_headers = 91900,
                          .cudnn_cuda = 13000,
                          .cudnn_parts = ""};
  CHECK(why_not_usable(good) == "");
  const auto with = [&](auto change) {
    MachineFacts facts = good;
    change(facts);
    return why_not_usable(facts);
  };
  CHECK(with([](auto& f) { f.driver_cuda = 0, f.devices = 0; }) == "no NVIDIA driver");
  CHECK(with([](auto& f) { f.driver_cuda = 12080; }) ==
        "the NVIDIA driver serves CUDA 12.8; this build needs a driver for CUDA 13.0 or newer");
  CHECK(with([](auto& f) { f.runtime_cuda = 13010; }) == "");  // an older driver of the same major version
  CHECK(with([](auto& f) { f.devices = 0; }) == "no CUDA device");
  CHECK(with([](auto& f) { f.wanted = 2; }) == "there is no CUDA device 2: this machine has 2, numbers 0 to 1");
  CHECK(with([](auto& f) { f.devices = 1; }) == "there is no CUDA device 1: this machine has 1, number 0");
  CHECK(with([](auto& f) { f.device_name = "Tesla V100", f.capability = 70; }) ==
        "Tesla V100 has compute capability 7.0; this build needs 8.0 or newer");
  CHECK(with([](auto& f) { f.cudnn = 91002; }) ==
        "cuDNN 9.10 is installed; this build needs 9.19 or a newer one of version 9");
  CHECK(with([](auto& f) { f.cudnn = 92000; }) == "");
  CHECK(with([](auto& f) { f.cudnn = 100000; }) ==
        "cuDNN 10.0 is installed; this build needs 9.19 or a newer one of version 9");
  CHECK(with([](auto& f) { f.cudnn_cuda = 12090; }) ==
        "the installed cuDNN is made for CUDA 12; this build needs the one for CUDA 13");
  CHECK(with([](auto& f) { f.cudnn_parts = "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"; }) ==
        "cuDNN's libraries are of different versions: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH");
}

TEST_CASE("mirror: overlapping arguments stay one; writes outside of them and to inputs are found") {
  const auto cpu = make_cpu_backend();
  std::vector<float> memory(32, 1.0f);
  {
    testing::Mirror m(*cpu);
    const float* x = memory.data();
    float *y = memory.data() + 4, *far = memory.data() + 20;
    m.in(x, 8), m.out(y, 8), m.out(far, 2);
    m.run([&] {
      CHECK(y == x + 4);
      CHECK((x < memory.data() || x >= memory.data() + memory.size()));
      CHECK(reinterpret_cast<std::uintptr_t>(x) % 16 == reinterpret_cast<std::uintptr_t>(memory.data()) % 16);
      y[0] = 2, y[7] = 3, far[1] = 4;
    });
    CHECK((memory[4] == 2 && memory[11] == 3 && memory[21] == 4 && memory[3] == 1));
  }
  for (const std::ptrdiff_t outside : {-1, 8}) {
    testing::Mirror m(*cpu);
    float* y = memory.data();
    m.out(y, 8);
    CHECK_THROWS_WITH_AS(m.run([&] { y[outside] = 5; }), "mirror: a kernel wrote outside of its argument of 32 bytes",
                         Error);
  }
  testing::Mirror m(*cpu);
  const float* x = memory.data();
  m.in(x, 8);
  CHECK_THROWS_WITH_AS(m.run([&] { const_cast<float*>(x)[3] = 9; }), "mirror: a kernel wrote to an input of 32 bytes",
                       Error);
}
