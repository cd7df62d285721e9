#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/conv.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vector.h"
#include "kernels/dispatch.h"

/// What stands around cuDNN's convolutions: operands brought into the form that a plan wants (packed, channels padded, the
/// compute type) and results brought out of it. Templates over the launcher (run.h): conv.cu and linear.cu queue them, the
/// tests walk them on the host.
namespace frost::cuda {

/// Item i: `width` channels of one pixel of the packed `to`; channels that `from` lacks become zero. `whole`: each vector
/// lies wholly inside `from` and is aligned there. Floor: reads from once, writes to once.
template <class Bits, int width, bool whole, class Index>
struct PackChannels {
  const Bits* from;
  Bits* to;
  Index from_pitch, from_channels, items;  // items: vectors to a pixel of `to`

  FROST_HD void operator()(std::int64_t i) const {
    const auto [pixel, item] = split(static_cast<Index>(i), items);
    const Index c = item * width;
    const Bits* source = from + pixel * from_pitch + c;
    Pack<Bits, width> values;
    if constexpr (whole) {
      values = load_pack<width>(source);
    } else {
      FROST_UNROLL
      for (int j = 0; j < width; ++j) values.lane[j] = c + j < from_channels ? source[j] : Bits{0};
    }
    store_pack<width>(to + static_cast<Index>(i) * width, values);
  }
};

/// `to`: packed, 16-byte aligned, of from's type and pixels and at least its channels.
template <class Launcher>
void pack_channels(const Launcher& launch, const ConstView& from, const View& to) {
  const auto run = [&]<class Bits, int width, bool whole, class Index>() {
    launch.items(to.shape.elements() / width, PackChannels<Bits, width, whole, Index>{
                                                  from.as<Bits>(), to.as<Bits>(), static_cast<Index>(from.pitch),
                                                  static_cast<Index>(from.shape.c), static_cast<Index>(to.shape.c / width)});
  };
  const bool small = fits_int32(std::max(from.shape.pixels() * from.pitch, to.shape.elements()));
  const auto index = [&]<class Bits, int width, bool whole>() {
    small ? run.template operator()<Bits, width, whole, std::int32_t>()
          : run.template operator()<Bits, width, whole, std::int64_t>();
  };
  const auto width = [&]<class Bits>() {
    constexpr int kWide = kVectorBytes / static_cast<int>(sizeof(Bits));
    if (to.shape.c % kWide != 0)
      index.template operator()<Bits, 1, false>();
    else if (from.shape.c == to.shape.c && aligned_to(from, kWide))
      index.template operator()<Bits, kWide, true>();
    else
      index.template operator()<Bits, kWide, false>();
  };
  size_of(from.dtype) == 4 ? width.template operator()<std::uint32_t>() : width.template operator()<std::uint16_t>();
}

/// Item i: `width` channels of one pixel of y = activation(from + bias). Floor: reads from once, writes y once.
template <class From, class To, int width, class Index>
struct Deliver {
  const From* from;
  const float* bias;  // null: none
  To* y;
  Index from_pitch, y_pitch, items;  // items: vectors to a pixel of y
  Activation activation;

  FROST_HD void operator()(std::int64_t i) const {
    const auto [pixel, item] = split(static_cast<Index>(i), items);
    const Index c = item * width;
    Lanes<width> z = load<width>(from + pixel * from_pitch + c);
    FROST_UNROLL
    for (int j = 0; j < width; ++j) z[j] = activate(activation, bias ? z[j] + bias[c + j] : z[j]);
    store(y + pixel * y_pitch + c, z);
  }
};

/// A convolution's result on its way to the caller: `from` is packed and has at least y's channels; y may be `from` itself
/// and has its type, or is f32.
template <class Launcher>
void deliver(const Launcher& launch, const ConstView& from, const float* bias, const Activation& activation, const View& y) {
  ConstView read = from;  // the channels that y wants; the pitch keeps stepping over the padding
  read.shape.c = y.shape.c;
  FROST_CHECK(y.dtype == read.dtype || y.dtype == DType::f32, "conv2d: y of type ", name_of(y.dtype), " from ",
              name_of(read.dtype));
  const auto run = [&]<class From, class To, int width, class Index>() {
    launch.items(
        y.shape.elements() / width,
        Deliver<From, To, width, Index>{read.as<From>(), bias, y.as<To>(), static_cast<Index>(read.pitch),
                                        static_cast<Index>(y.pitch), static_cast<Index>(y.shape.c / width), activation});
  };
  const bool small = fits_int32(y.shape.pixels() * std::max(read.pitch, y.pitch));
  const auto index = [&]<class From, class To, int width>() {
    small ? run.template operator()<From, To, width, std::int32_t>()
          : run.template operator()<From, To, width, std::int64_t>();
  };
  const auto width = [&]<class From, class To>() {
    constexpr int kWide = kVectorBytes / static_cast<int>(std::max(sizeof(From), sizeof(To)));
    vector_width({read, y}) >= kWide ? index.template operator()<From, To, kWide>()
                                     : index.template operator()<From, To, 1>();
  };
  with_float(read.dtype, "conv2d", [&]<class From>(From) {
    y.dtype == read.dtype ? width.template operator()<From, From>() : width.template operator()<From, float>();
  });
}

/// f32 rows of channels in the compute type: filters (OHWI: a row to each tap), biases, gradients of f32 head maps. Item i
/// counts `to`, which is packed; rows and channels that `from` lacks become zero. Floor: reads f32 once, writes once.
template <class To>
struct ConvertRows {
  const float* from;
  To* to;
  std::int64_t rows, pitch, channels, padded;

  FROST_HD void operator()(std::int64_t i) const {
    const auto [row, c] = split(i, padded);
    to[i] = math::from_float<To>(row < rows && c < channels ? from[row * pitch + c] : 0.f);
  }
};

template <class Launcher>
void convert_rows(const Launcher& launch, const ConstView& from, const View& to) {
  FROST_CHECK(from.dtype == DType::f32, "conv2d: ", name_of(from.dtype), " where ", name_of(to.dtype), " or f32 is wanted");
  with_float(to.dtype, "conv2d", [&]<class To>(To) {
    launch.items(to.shape.elements(),
                 ConvertRows<To>{from.as<float>(), to.as<To>(), from.shape.pixels(), from.pitch, from.shape.c, to.shape.c});
  });
}

/// Whatever a plan reads: packed, padded, in its type. `to` may have more channels and, for filters, more rows.
template <class Launcher>
void pack(const Launcher& launch, const ConstView& from, const View& to) {
  from.dtype == to.dtype&& from.shape.pixels() == to.shape.pixels() ? pack_channels(launch, from, to)
                                                                    : convert_rows(launch, from, to);
}

/// The way back, for gradients: item i counts the caller's filters, f32. Floor: reads the compute type once, writes f32
/// once; added to, it is read once as well.
template <class From>
struct DeliverFilters {
  const From* from;
  float* to;
  std::int64_t in, padded_in;
  bool accumulate;

  FROST_HD void operator()(std::int64_t i) const {
    const auto [row, c] = split(i, in);  // padded filters follow the others: a row's number is the same on both sides
    const float value = math::to_float(from[row * padded_in + c]);
    to[i] = accumulate ? to[i] + value : value;
  }
};

template <class Launcher>
void deliver_filters(const Launcher& launch, const ConstView& from, const View& to, bool accumulate) {
  with_float(from.dtype, "conv2d", [&]<class From>(From) {
    launch.items(to.shape.elements(),
                 DeliverFilters<From>{from.as<From>(), to.as<float>(), to.shape.c, from.shape.c, accumulate});
  });
}

/// Sums of each channel over all pixels, in an order that depends on the shape alone: stripes of pixels first (item i: one
/// channel of one stripe, neighbours in a warp are neighbours in memory), then the stripes. Floor: reads dy once.
template <class T>
struct ChannelSums {
  const T* dy;
  float* sums;                                   // (stripes, channels)
  std::int64_t pixels, pitch, channels, stripe;  // stripe: pixels in one

  FROST_HD void operator()(std::int64_t i) const {
    const auto [s, c] = split(i, channels);
    const std::int64_t first = s * stripe, last = first + stripe < pixels ? first + stripe : pixels;
    float sum = 0;
    for (std::int64_t p = first; p < last; ++p) sum += math::to_float(dy[p * pitch + c]);
    sums[i] = sum;
  }
};
/// Item: a channel. Floor: reads the stripes' sums once.
struct JoinSums {
  const float* sums;
  float* to;
  std::int64_t stripes, channels;
  bool accumulate;

  FROST_HD void operator()(std::int64_t c) const {
    float sum = 0;
    for (std::int64_t s = 0; s < stripes; ++s) sum += sums[s * channels + c];
    to[c] = accumulate ? to[c] + sum : sum;
  }
};

/// Pixels in a stripe: no longer than the number of stripes, so that both loops and both roundings stay short.
constexpr std::int64_t stripe_length(std::int64_t pixels) {
  std::int64_t stripe = 16;
  while (stripe * stripe < pixels) stripe *= 2;
  return stripe;
}
constexpr std::int64_t stripe_count(std::int64_t pixels) {
  return (pixels + stripe_length(pixels) - 1) / stripe_length(pixels);
}

/// `partial`: room for stripe_count(pixels) * channels values.
template <class Launcher>
void sum_channels(const Launcher& launch, const ConstView& dy, float* partial, float* to, bool accumulate) {
  const std::int64_t pixels = dy.shape.pixels(), stripes = stripe_count(pixels);
  with_float(dy.dtype, "conv2d", [&]<class T>(T) {
    launch.items(stripes * dy.shape.c,
                 ChannelSums<T>{dy.as<T>(), partial, pixels, dy.pitch, dy.shape.c, stripe_length(pixels)});
  });
  launch.items(dy.shape.c, JoinSums{partial, to, stripes, dy.shape.c, accumulate});
}

}  // namespace frost::cuda
