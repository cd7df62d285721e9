#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/cuda/convolution/conv_kernels.cuh"
#include "kernels/cuda/convolution/roofline.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/host_launch.h"
#include "tests/numbers.h"

// The kernels around cuDNN's convolutions, emulated on the host against what they say they do.
using namespace frost;
using namespace frost::cuda;
using frost::testing::Guarded;
using frost::testing::noise;

namespace {

float rounded(float value, DType type) {
  if (type == DType::bf16) return math::to_float(math::from_float<math::bf16>(value));
  return type == DType::f16 ? math::to_float(math::from_float<math::f16>(value)) : value;
}
std::vector<float> noise_of(const Shape& s, std::uint64_t seed) {
  return noise(static_cast<std::size_t>(s.elements()), seed);
}

struct Slice {
  std::int64_t channels, before, after;
};

/// Filters and their padded form: a stem's, more rows alone, whole vectors and their tails, depthwise, a bias.
constexpr std::pair<Shape, Shape> kFilters[]{{{5, 2, 3, 3}, {8, 2, 3, 8}},   {{5, 3, 3, 8}, {8, 3, 3, 8}},
                                             {{4, 1, 3, 20}, {8, 1, 3, 24}}, {{12, 3, 3, 1}, {16, 3, 3, 1}},
                                             {{5, 1, 1, 13}, {8, 1, 1, 16}}, {{1, 1, 1, 255}, {1, 1, 1, 255}}};

}  // namespace

TEST_CASE("conv pack: slices, odd channels and other types become packed, padded with zeros") {
  for (const DType to_type : {DType::f32, DType::f16, DType::bf16})
    for (const DType from_type : {DType::f32, to_type})
      for (const Slice& s : {Slice{3, 0, 0}, Slice{8, 0, 0}, Slice{16, 8, 8}, Slice{16, 3, 1}, Slice{21, 0, 0},
                             Slice{1, 2, 2}, Slice{21, 8, 3}})
        for (const bool backwards : {false, true}) {
          const Shape shape{2, 3, 5, s.channels};
          const std::int64_t padded = to_type == DType::f32 ? (s.channels + 3) / 4 * 4 : (s.channels + 7) / 8 * 8;
          for (const std::int64_t channels : {padded, s.channels}) {
            const std::vector<float> values = noise_of(shape, 1);
            const Guarded from(shape, values, from_type, s.before, s.after);
            const Shape wide{2, 3, 5, channels};
            Guarded to(wide, to_type);
            pack(HostLaunch(backwards), from.view(), to.view());
            const std::vector<float> got = to.values();
            bool same = true;
            for (std::int64_t i = 0; i < wide.elements(); ++i) {
              const std::int64_t pixel = i / channels, c = i % channels;
              const float want =
                  c < s.channels ? rounded(values[static_cast<std::size_t>(pixel * s.channels + c)], to_type) : 0.f;
              same = same && got[static_cast<std::size_t>(i)] == want;
            }
            CHECK(same);
            CHECK(to.intact());
          }
        }
}

TEST_CASE("conv pack: filters and biases grow by rows and channels") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const auto& [filters, padded] : kFilters) {
      CAPTURE(filters);
      const std::vector<float> values = noise_of(filters, 2);
      const Guarded from(filters, values);
      Guarded to(padded, type);
      pack(HostLaunch(), from.view(), to.view());
      const std::vector<float> got = to.values();
      bool same = true;
      for (std::int64_t i = 0; i < padded.elements(); ++i) {
        const std::int64_t row = i / padded.c, c = i % padded.c;
        const float want = row < filters.pixels() && c < filters.c
                               ? rounded(values[static_cast<std::size_t>(row * filters.c + c)], type)
                               : 0.f;
        same = same && got[static_cast<std::size_t>(i)] == want;
      }
      CHECK(same);
      CHECK(to.intact());
    }
  }
  const Guarded from(Shape{1, 1, 1, 4}, DType::bf16);
  Guarded to(Shape{1, 1, 1, 8}, DType::f16);
  CHECK_THROWS_AS(pack(HostLaunch(), from.view(), to.view()), Error);
}

TEST_CASE("conv deliver: bias, activation, type and slice in one pass, in place as well") {
  using enum ActivationKind;
  for (const DType from_type : {DType::f32, DType::f16, DType::bf16})
    for (const DType to_type : {from_type, DType::f32})
      for (const ActivationKind kind : {identity, silu, relu, leaky_relu, hardswish, sigmoid, relu6, hardsigmoid})
        for (const Slice& s :
             {Slice{8, 0, 0}, Slice{16, 8, 0}, Slice{255, 0, 0}, Slice{3, 1, 1}, Slice{3, 0, 0}, Slice{255, 8, 1}})
          for (const bool with_bias : {false, true}) {
            const Activation activation{kind, .1f};
            const Shape shape{1, 3, 3, s.channels}, padded{1, 3, 3, (s.channels + 7) / 8 * 8};
            const std::vector<float> values = noise_of(padded, 3), bias = noise_of({1, 1, 1, s.channels}, 4);
            const Guarded from(padded, values, from_type);
            Guarded y(shape, to_type, s.before, s.after);
            deliver(HostLaunch(), from.view(), with_bias ? bias.data() : nullptr, activation, y.view());
            const std::vector<float> got = y.values();
            bool same = true;
            for (std::int64_t i = 0; i < shape.elements(); ++i) {
              const std::int64_t pixel = i / s.channels, c = i % s.channels;
              float z = rounded(values[static_cast<std::size_t>(pixel * padded.c + c)], from_type);
              if (with_bias) z += bias[static_cast<std::size_t>(c)];
              same = same && got[static_cast<std::size_t>(i)] == rounded(activate(activation, z), to_type);
            }
            CHECK(same);
            CHECK(y.intact());
          }
  // Packed, and at an address that allows no vectors.
  const Shape odd{1, 1, 7, 3};
  const std::vector<float> bias = noise_of({1, 1, 1, 3}, 4);
  const Guarded from({1, 1, 7, 8}, noise_of({1, 1, 7, 8}, 3));
  std::vector<float> memory(23, -1.f);
  deliver(HostLaunch(), from.view(), bias.data(), {}, packed_view(memory.data() + 1, odd));
  CHECK((memory[0] == -1.f && memory[22] == -1.f));
  for (std::size_t i = 0; i < 21; ++i) CHECK(memory[i + 1] == from.values()[i / 3 * 8 + i % 3] + bias[i % 3]);
  // In place, vectors and the row of a head.
  const Shape shape{1, 2, 2, 8};
  const std::vector<float> values = noise_of(shape, 5);
  Guarded y(shape, values, DType::f16);
  deliver(HostLaunch(), y.view(), nullptr, {relu}, y.view());
  const std::vector<float> got = y.values();
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == std::max(0.f, rounded(values[i], DType::f16)));
  Guarded row(odd, noise_of(odd, 6));
  const std::vector<float> before = row.values();
  deliver(HostLaunch(), row.view(), bias.data(), {relu}, row.view());
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(row.values()[i] == std::max(0.f, before[i] + bias[i % 3]));
  CHECK(row.intact());
}

TEST_CASE("conv gradients of filters come home from their padded form, added or written; infinity stays") {
  for (const auto& [filters, padded] : kFilters)
    for (const DType type : {DType::f32, DType::f16, DType::bf16})
      for (const bool accumulate : {false, true}) {
        CAPTURE(filters);
        std::vector<float> values = noise_of(padded, 6);
        values[0] = 1e9f;  // beyond f16
        const std::vector<float> before = noise_of(filters, 7);
        const Guarded from(padded, values, type);
        Guarded to(filters, before);
        deliver_filters(HostLaunch(), from.view(), to.view(), accumulate);
        const std::vector<float> got = to.values();
        bool same = true;
        for (std::int64_t i = 0; i < filters.elements(); ++i) {
          const std::int64_t row = i / filters.c, c = i % filters.c;
          const float value = rounded(values[static_cast<std::size_t>(row * padded.c + c)], type);
          same =
              same && got[static_cast<std::size_t>(i)] == (accumulate ? before[static_cast<std::size_t>(i)] + value : value);
        }
        CHECK(same);
        CHECK(to.intact());
        if (type == DType::f16) CHECK(got[0] == std::numeric_limits<float>::infinity());
      }
}

TEST_CASE("conv bias gradient: sums of channels, the same whatever the order of threads") {
  for (const std::int64_t pixels : {1, 15, 16, 17, 300, 5000})
    for (const Slice& s : {Slice{5, 2, 1}, Slice{8, 8, 0}, Slice{21, 0, 3}, Slice{pixels < 300 ? 255 : 12, 0, 0}})
      for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
        CAPTURE(pixels);
        CAPTURE(s.channels);
        const Shape shape{1, pixels, 1, s.channels}, row{1, 1, 1, s.channels};
        const std::vector<float> values = noise_of(shape, 8), before = noise_of(row, 9);
        const Guarded dy(shape, values, type, s.before, s.after);
        for (const bool accumulate : {false, true}) {
          std::vector<float> results[2];
          for (const bool backwards : {false, true}) {
            Guarded to(row, before);
            const HostLaunch launch(backwards);
            const auto count = static_cast<std::size_t>(partial_sums(dy.view()));
            auto* partial = static_cast<float*>(launch.scratch((count + 1) * sizeof(float)));
            partial[count] = 7;
            sum_channels(launch, dy.view(), partial, to.view().as<float>(), accumulate);
            CHECK(partial[count] == 7);
            CHECK(to.intact());
            results[backwards] = to.values();
          }
          CHECK(results[0] == results[1]);
          for (std::int64_t c = 0; c < s.channels; ++c) {
            double sum = accumulate ? before[static_cast<std::size_t>(c)] : 0;
            for (std::int64_t p = 0; p < pixels; ++p)
              sum += rounded(values[static_cast<std::size_t>(p * s.channels + c)], type);
            // f32 sums of up to 5000 values of order 1, in short loops
            CHECK(results[0][static_cast<std::size_t>(c)] == doctest::Approx(sum).epsilon(1e-5).scale(1));
          }
        }
      }
}

TEST_CASE("roofline: an H100's and an A100's data sheets") {
  const DeviceRates h100 = device_rates(90, 132, 1.83e9, 2619e6, 5120);
  CHECK(h100.flops16 == doctest::Approx(989e12).epsilon(0.01));
  CHECK(h100.flops_tf32 == doctest::Approx(495e12).epsilon(0.01));
  CHECK(h100.flops32 == doctest::Approx(62e12).epsilon(0.1));  // 67 at the highest boost clock
  CHECK(h100.bytes == doctest::Approx(3.35e12).epsilon(0.01));
  const DeviceRates a100 = device_rates(80, 108, 1.41e9, 1215e6, 5120);
  CHECK(a100.flops16 == doctest::Approx(312e12).epsilon(0.01));
  CHECK(a100.flops32 == doctest::Approx(19.5e12).epsilon(0.01));
  CHECK(a100.bytes == doctest::Approx(1.555e12).epsilon(0.01));
  // 1x1 on many channels: arithmetic; depthwise: memory; a tiny one: the launch
  CHECK(roofline_seconds(h100, DType::f16, false, 989e9, 1e6) == doctest::Approx(1e-3).epsilon(0.01));
  CHECK(roofline_seconds(h100, DType::f32, false, 1e6, 3.35e9) == doctest::Approx(1e-3).epsilon(0.01));
  CHECK(roofline_seconds(h100, DType::f16, false, 1, 1) == 4e-6);
}
