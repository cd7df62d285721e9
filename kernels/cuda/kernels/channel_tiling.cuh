#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/kernels/launch.cuh"
#include "kernels/cuda/kernels/vector_access.cuh"

/// How blocks share a map whose channels have parameters or sums of their own: a thread keeps `width` channels, whose values
/// stay in its registers, and reads pixels; neighbouring threads have neighbouring channels, then neighbouring pixels.
namespace frost::cuda {

inline constexpr int kMostColumns = 32;  // 512 neighbouring bytes of 16 for each thread: more would not be read faster

/// A tree over rows, phase by phase: in phase p rows [0, stride) add rows [stride, 2 stride), which the phase before wrote
/// to shared memory; stride is 2^(phases - 1 - p). A row is written once, when no other thread reads it. Row 0 has the
/// total at the end of the last phase. `pitch`: threads from row to row.
template <int phase, int phases, class T, class Join>
FROST_HD void join_tree(int row, int rows, int pitch, int thread, T* shared, T& own, const Join& join) {
  constexpr int stride = 1 << (phases - 1 - phase);
  if constexpr (phase > 0)
    if (row < stride && row + stride < rows) join(own, shared[thread + stride * pitch]);
  if constexpr (phase + 1 < phases)
    if (row >= stride / 2 && row < stride) shared[thread] = own;
}

/// Each block has `columns` threads side by side (of `items` to a pixel, in `tiles` tiles), `rows` pixels at a time, and
/// loops over `chunk` pixels. A few threads of a block may have nothing to do: 4 of 256 where a pixel has 6 items.
struct Columns {
  std::int64_t pixels, chunk, chunks;
  int items, tiles, columns, rows;

  std::int64_t blocks() const { return chunks * tiles; }

  FROST_HD std::int64_t chunk_of(std::int64_t block) const { return block / tiles; }
  FROST_HD std::int64_t first_pixel(std::int64_t block) const { return chunk_of(block) * chunk; }
  FROST_HD std::int64_t pixels_of_chunk(std::int64_t index) const {
    const std::int64_t left = pixels - index * chunk;
    return left < chunk ? left : chunk;
  }
  FROST_HD int row(int thread) const { return thread / columns; }
  /// The thread's item of a pixel.
  FROST_HD int item(std::int64_t block, int thread) const {
    return static_cast<int>(block % tiles) * columns + thread % columns;
  }
  FROST_HD bool works(std::int64_t block, int thread) const { return row(thread) < rows && item(block, thread) < items; }
  static constexpr int kJoinPhases = 9;  // of a kernel that joins its rows: a block has at most 2^8
  template <int phase, class T, class Join>
  FROST_HD void join_rows(int thread, T* shared, T& own, const Join& join) const {
    join_tree<phase, kJoinPhases>(row(thread), rows, columns, thread, shared, own, join);
  }
};

/// Adds up partial sums over chunks: a kernel gives each of 8 channels, whose sums share a sector, to 32 threads of a block.
struct ChunkSums {
  static constexpr int kChannels = 8, kGroups = 32, kThreads = kChannels * kGroups, kPhases = 6;
  struct Pair {
    double a, b;
  };
  struct Shared {
    Pair sums[kThreads];
  };
  struct Own {
    Pair sums;
  };
  static std::int64_t blocks(std::int64_t channels) { return (channels + kChannels - 1) / kChannels; }
  FROST_HD static std::int64_t channel(std::int64_t block, int thread) { return block * kChannels + thread % kChannels; }
  FROST_HD static int group(int thread) { return thread / kChannels; }

  /// Over groups: group 0 has the sum at the end of the last phase.
  template <int phase>
  FROST_HD static void join(int thread, Shared& shared, Own& own) {
    join_tree<phase, kPhases>(group(thread), kGroups, kChannels, thread, shared.sums, own.sums, [](Pair& a, const Pair& b) {
      a.a += b.a;
      a.b += b.b;
    });
  }
};

/// About `wanted` blocks of `threads`, whose threads handle at least `least` pixels each.
inline Columns columns_of(const Shape& shape, int width, std::int64_t wanted, int least, int threads = kThreads) {
  Columns c{};
  c.pixels = shape.pixels();
  c.items = static_cast<int>((shape.c + width - 1) / width);
  c.tiles = (c.items + kMostColumns - 1) / kMostColumns;
  c.columns = (c.items + c.tiles - 1) / c.tiles;
  c.rows = threads / c.columns;
  const std::int64_t passes = (c.pixels + c.rows - 1) / c.rows, share = std::max<std::int64_t>(1, wanted / c.tiles);
  c.chunk = std::max<std::int64_t>(least, (passes + share - 1) / share) * c.rows;
  c.chunks = (c.pixels + c.chunk - 1) / c.chunk;
  return c;
}

/// use(pixel, values) for the pixels of a thread, `ahead` at a time: their reads are all under way before the first
/// result is written, which is what keeps the memory busy. read(pixel) returns what a pixel needs.
template <int ahead, class Read, class Use>
FROST_HD void walk_pixels(const Columns& c, std::int64_t block, int thread, const Read& read, const Use& use) {
  const std::int64_t first = c.first_pixel(block), last = first + c.pixels_of_chunk(c.chunk_of(block));
  for (std::int64_t pixel = first + c.row(thread); pixel < last; pixel += std::int64_t{ahead} * c.rows) {
    decltype(read(pixel)) values[ahead]{};
    FROST_UNROLL
    for (int k = 0; k < ahead; ++k)
      if (pixel + k * c.rows < last) values[k] = read(pixel + k * c.rows);
    FROST_UNROLL
    for (int k = 0; k < ahead; ++k)
      if (pixel + k * c.rows < last) use(pixel + k * c.rows, values[k]);
  }
}

}  // namespace frost::cuda
