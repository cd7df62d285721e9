#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/conv.h"
#include "kernels/cuda/kernels/activation.cuh"
#include "kernels/cuda/kernels/channel_tiling.cuh"
#include "kernels/cuda/kernels/vector_items.cuh"
#include "kernels/dispatch.h"

/// The copies around cuDNN's convolutions: operands are converted to the form that a plan needs (packed, channels padded,
/// the compute type) and results back from it. Templates over the launcher (kernel_launch.cuh): conv.cu and linear.cu queue
/// them, the tests emulate them on the host.
namespace frost::cuda {

/// Two maps whose pixels are equally wide and packed may each be read as one long row.
inline Flat flat_rows(const ConstView& a, const ConstView& b) {
  Flat flat{a, b};
  flat.packed = flat.packed && a.shape.c == b.shape.c;
  return flat;
}

/// Item i: `width` channels of one pixel of `to`; pixels and channels that `from` lacks become zero. `whole`: `from` is read
/// in vectors as well, else value by value (3 channels of an image, 255 of a head). Lower bound: reads from once, writes to
/// once.
template <class From, class To, int width, bool whole>
struct PackRows {
  Items items;  // of to
  Plane<const From> from;
  Plane<To> to;
  std::int64_t rows, channels;  // of from

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const std::int64_t left = at.pixel < rows ? channels - at.channel : 0;
    const int count = left >= width ? width : left > 0 ? static_cast<int>(left) : 0;
    const From* source = from.pixel(at.pixel) + at.channel;
    Pack<From, width> values;
    if constexpr (whole) {
      values = load_pack<width>(source, count);
    } else {
      FROST_UNROLL
      for (int j = 0; j < width; ++j) values.lane[j] = j < count ? source[j] : From{};
    }
    To* target = to.pixel(at.pixel) + at.channel;
    if constexpr (std::is_same_v<From, To>)
      store_pack(target, values, at.count);
    else
      store(target, lanes_of(values), at.count);
  }
};

/// Whatever a plan reads: `to` is packed and 16-byte aligned; it has at least from's channels and, for filters (OHWI: a
/// pixel to each tap), at least its rows. `from` has its type or is f32.
template <class Launcher>
void pack(const Launcher& launch, const ConstView& from, const View& to) {
  FROST_CHECK(from.dtype == to.dtype || from.dtype == DType::f32, "conv2d: ", name_of(from.dtype), " where ",
              name_of(to.dtype), " or f32 is wanted");
  const Flat flat = flat_rows(from, to);
  const ConstView source = flat(from);
  const View target = flat(to);
  const auto run = [&]<class From, class To>() {
    const auto rows = [&](auto width, auto whole) {
      const Items items(target.shape, width);
      launch.items(items.count(), PackRows<From, To, width, whole>{items, plane<From>(source), plane<To>(target),
                                                                   source.shape.pixels(), source.shape.c});
    };
    with_width<Wider<From, To>>({source, target}, Tails::handled, [&](auto width) {
      if constexpr (width > 1)
        rows(width, std::true_type{});
      else
        with_width<To>({target}, Tails::handled, [&](auto stores) { rows(stores, std::false_type{}); });
    });
  };
  with_float(to.dtype, "conv2d", [&]<class To>(To) {
    from.dtype == to.dtype ? run.template operator()<To, To>() : run.template operator()<float, To>();
  });
}

/// y = activation(from + bias). Item i: `width` channels of one pixel of y; or, with `gather`, `width` values of a packed y
/// as one row, read one by one (a head's 255 channels out of 256). Lower bound: reads from once, writes y once.
template <class From, class To, int width, bool gather>
struct Deliver {
  Items items;
  Plane<const From> from;
  Plane<To> y;
  const float* bias;  // null: none
  Divider channels;   // of y, before it became a row
  Activation activation;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    Lanes<width> z, shift;
    if constexpr (gather) {
      auto [pixel, c] = divide(at.channel, channels);
      const From* source = from.pixel(pixel);
      FROST_UNROLL
      for (int j = 0; j < width; ++j) {
        z[j] = j < at.count ? to_lane(source[c]) : 0.0f;
        shift[j] = bias && j < at.count ? bias[c] : 0.0f;
        if (++c == channels.divisor()) c = 0, source += from.pitch;
      }
    } else {
      z = load<width>(from.pixel(at.pixel) + at.channel, at.count);
      shift = channel_values<width>(bias, at.channel, 0, at.count);
    }
    FROST_UNROLL
    for (int j = 0; j < width; ++j) z[j] = activate(activation, bias ? z[j] + shift[j] : z[j]);
    store(y.pixel(at.pixel) + at.channel, z, at.count);
  }
};

/// A convolution's result on its way to the caller: `from` is packed and has at least y's channels; y may be `from` itself
/// and has its type, or is f32.
template <class Launcher>
void deliver(const Launcher& launch, const ConstView& from, const float* bias, const Activation& activation, const View& y) {
  if (y.shape.elements() == 0) return;
  ConstView read = from;  // the channels that y wants; the pitch still includes the padding
  read.shape.c = y.shape.c;
  FROST_CHECK(y.dtype == read.dtype || y.dtype == DType::f32, "conv2d: y of type ", name_of(y.dtype), " from ",
              name_of(read.dtype));
  const auto run = [&]<class From, class To>() {
    const auto rows = [&](const View& to, auto width, auto gather) {
      const Items items(to.shape, width);
      launch.items(items.count(), Deliver<From, To, width, gather>{items, plane<From>(read), plane<To>(to), bias,
                                                                   Divider(y.shape.c), activation});
    };
    with_width<Wider<From, To>>({read, y}, Tails::handled, [&](auto width) {
      if (width > 1 || !y.packed()) return rows(y, width, std::false_type{});
      const View row = Flat{y}(y);
      with_width<To>({row}, Tails::handled, [&](auto stores) { rows(row, stores, std::true_type{}); });
    });
  };
  with_float(read.dtype, "conv2d", [&]<class From>(From) {
    y.dtype == read.dtype ? run.template operator()<From, From>() : run.template operator()<From, float>();
  });
}

/// The way back, for gradients of filters: to = from, or to += from. Lower bound: reads the compute type once, writes f32
/// once; added to, it is read once as well.
template <class From, int width>
struct DeliverFilters {
  Items items;  // of to
  Plane<const From> from;
  Plane<float> to;
  bool accumulate;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);  // padded filters follow the others: a row's number is the same on both sides
    Lanes<width> values = load<width>(from.pixel(at.pixel) + at.channel, at.count);
    float* target = to.pixel(at.pixel) + at.channel;
    if (accumulate) {
      const Lanes<width> before = load<width>(target, at.count);
      FROST_UNROLL
      for (int j = 0; j < width; ++j) values[j] += before[j];
    }
    store(target, values, at.count);
  }
};

template <class Launcher>
void deliver_filters(const Launcher& launch, const ConstView& from, const View& to, bool accumulate) {
  const Flat flat = flat_rows(from, to);
  const ConstView source = flat(from);
  const View target = flat(to);
  with_float(from.dtype, "conv2d", [&]<class From>(From) {
    over_vectors<float>(launch, {source, target}, target.shape, [&](auto width, const Items& items) {
      return DeliverFilters<From, width>{items, plane<From>(source), plane<float>(target), accumulate};
    });
  });
}

/// Each block's sums of its channels over its pixels, to `partial` (chunks, whole vectors of channels). Lower bound: reads
/// dy once.
template <class T, int width>
struct BlockChannelSums {
  static constexpr int kThreads = cuda::kThreads, kPhases = Columns::kJoinPhases;
  struct Shared {
    Lanes<width> sums[kThreads];
  };
  struct Own {
    Lanes<width> sums;
  };

  Plane<const T> dy;
  std::int64_t channels;
  float* partial;
  Columns columns;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    if (!columns.works(block, thread)) return;
    const std::int64_t first = std::int64_t{columns.item(block, thread)} * width, left = channels - first;
    const int count = left < width ? static_cast<int>(left) : width;
    if constexpr (phase == 0)
      walk_pixels<4>(
          columns, block, thread, [&](std::int64_t pixel) { return load_pack<width>(dy.pixel(pixel) + first, count); },
          [&](std::int64_t, const Pack<T, width>& pack) {
            FROST_UNROLL
            for (int j = 0; j < width; ++j) own.sums[j] += math::to_float(pack.lane[j]);
          });
    columns.join_rows<phase>(thread, shared.sums, own.sums, [](Lanes<width>& a, const Lanes<width>& b) {
      FROST_UNROLL
      for (int j = 0; j < width; ++j) a[j] += b[j];
    });
    if (phase + 1 == kPhases && columns.row(thread) == 0)
      store(partial + columns.chunk_of(block) * columns.items * width + first, own.sums);
  }
};

/// Lower bound: reads the chunks' sums once.
struct FinishChannelSums : ChunkSums {
  const float* partial;  // (chunks, pitch)
  std::int64_t chunks, channels, pitch;
  float* to;
  bool accumulate;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    const std::int64_t c = channel(block, thread);
    if (c >= channels) return;
    if constexpr (phase == 0)
      for (std::int64_t i = group(thread); i < chunks; i += kGroups)
        own.sums.a += static_cast<double>(partial[i * pitch + c]);
    join<phase>(thread, shared, own);
    if constexpr (phase + 1 == kPhases) {
      if (group(thread) > 0) return;
      const auto sum = static_cast<float>(own.sums.a);
      to[c] = accumulate ? to[c] + sum : sum;
    }
  }
};

inline Columns sum_columns(const ConstView& dy, int width) {
  constexpr int kBlocks = 512;  // a round or less of any device: the order of the sums must not depend on it
  return columns_of(dy.shape, width, kBlocks, 4);
}

/// Room, in values, for sum_channels' partial sums.
inline std::int64_t partial_sums(const ConstView& dy) {
  const int width = access_width({dy});
  const Columns columns = sum_columns(dy, width);
  return columns.chunks * columns.items * width;
}

/// Sums of each channel over all pixels, in an order that depends on shape, pitch and alignment alone. dy is not empty,
/// `partial` 32-byte aligned.
template <class Launcher>
void sum_channels(const Launcher& launch, const ConstView& dy, float* partial, float* to, bool accumulate) {
  with_float(dy.dtype, "conv2d", [&]<class T>(T) {
    with_width<T>({dy}, Tails::handled, [&](auto width) {
      const Columns columns = sum_columns(dy, width);
      launch.blocks(columns.blocks(), BlockChannelSums<T, width>{plane<T>(dy), dy.shape.c, partial, columns});
      launch.blocks(ChunkSums::blocks(dy.shape.c),
                    FinishChannelSums{{}, partial, columns.chunks, dy.shape.c, columns.items * width, to, accumulate});
    });
  });
}

}  // namespace frost::cuda
