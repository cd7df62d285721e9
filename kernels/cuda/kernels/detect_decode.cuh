#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cuda/kernels/detect_level.h"
#include "kernels/cuda/kernels/launch.cuh"
#include "kernels/cuda/kernels/scalar_access.cuh"
#include "kernels/cuda/kernels/vector_access.cuh"
#include "kernels/cuda/kernels/workspace_layout.h"
#include "kernels/detect_checks.h"
#include "kernels/dispatch.h"
#include "kernels/math/activation.h"
#include "kernels/math/decode.h"

/// Logits to rows over a launcher (kernel_launch.cuh). First every block counts its kept predictions; from these counts
/// follows where each block writes. So rows are in the order level, anchor, row, column, whatever order blocks run in. Only
/// kept rows are decoded; they stay on the device.
namespace frost::cuda {

struct DecodeLevel : HeadLevel {
  int first;  // number of the level's first prediction in its image
};

/// A prediction's place: numbers run over level, anchor, row, column.
struct DecodePlace {
  int level, anchor, row, column;
  std::int64_t at;  // of its logits
};

struct DecodePlan {
  DecodeLevel level[kMostLevels];
  int levels, images, predictions, blocks;  // predictions, and blocks of 256 of them, to an image
  int attributes;
  float threshold;
  std::int32_t *counts, *offsets;  // (images, blocks): kept ones, and kept ones in the image's blocks before
  std::int32_t* kept;              // (images, predictions): numbers of kept predictions
  std::int32_t* totals;            // (images)

  FROST_HD DecodePlace place(int image, int number) const {
    const int index = level_of(level, levels, number, &DecodeLevel::first);
    const DecodeLevel& l = level[index];
    const int cells = l.rows * l.columns, inside = number - l.first, anchor = inside / cells, cell = inside - anchor * cells;
    const int row = cell / l.columns;
    const std::int64_t pixel = std::int64_t{image} * cells + cell;
    return {index, anchor, row, cell - row * l.columns, pixel * l.pitch + std::int64_t{anchor} * attributes};
  }
  FROST_HD bool keeps(int image, int number) const {
    if (threshold < 0) return true;
    const DecodePlace p = place(image, number);
    const DecodeLevel& l = level[p.level];
    return math::sigmoid(load_value(l.head, l.type, p.at + 4)) > threshold;
  }
};

/// Block: 256 predictions of an image. Counts the kept ones, or (`write`) puts their numbers where they belong.
/// Lower bound: reads one logit (a sector of 32 bytes, too far apart for wide accesses) for each prediction, twice, the
/// second time mostly from the cache.
template <bool write>
struct KeepPredictions {
  static constexpr int kThreads = 256, kPhases = 3, kPart = 32, kParts = kThreads / kPart;
  struct Shared {
    int kept[kThreads], part[kParts];
  };
  struct Own {};
  DecodePlan plan;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own&) const {
    const auto image = static_cast<int>(block / plan.blocks),
               number = static_cast<int>(block % plan.blocks) * kThreads + thread;
    if constexpr (phase == 0) {
      shared.kept[thread] = number < plan.predictions && plan.keeps(image, number) ? 1 : 0;
    } else if constexpr (phase == 1) {
      if (thread >= kParts) return;
      int sum = 0;
      for (int i = 0; i < kPart; ++i) sum += shared.kept[thread * kPart + i];
      shared.part[thread] = sum;
    } else if constexpr (!write) {
      if (thread > 0) return;
      int sum = 0;
      for (int i = 0; i < kParts; ++i) sum += shared.part[i];
      plan.counts[block] = sum;
    } else {
      if (!shared.kept[thread]) return;
      int before = plan.offsets[block];
      for (int i = 0; i < thread / kPart; ++i) before += shared.part[i];
      for (int i = thread / kPart * kPart; i < thread; ++i) before += shared.kept[i];
      plan.kept[std::int64_t{image} * plan.predictions + before] = number;
    }
  }
};

/// Item: a block of KeepPredictions. Adds up what is before it. Lower bound: a few hundred numbers from the cache.
struct PlaceBlocks {
  DecodePlan plan;
  FROST_HD void operator()(std::int64_t i) const {
    const auto block = static_cast<int>(i % plan.blocks);
    const std::int32_t* counts = plan.counts + (i - block);
    std::int32_t before = 0;
    for (int k = 0; k < block; ++k) before += counts[k];
    plan.offsets[i] = before;
    if (block + 1 == plan.blocks) plan.totals[i / plan.blocks] = before + counts[block];
  }
};

/// Item: an image. Where its rows end. Lower bound: one number an image, from the cache.
struct EndImages {
  DecodePlan plan;
  std::int64_t* ends;  // (images)
  FROST_HD void operator()(std::int64_t image) const {
    std::int64_t end = 0;
    for (std::int64_t i = 0; i <= image; ++i) end += plan.totals[i];
    ends[image] = end;
  }
};

/// Item: 4 values of the kept rows, counted over the images as one long row. Their logits are read one by one: runs of 5 +
/// classes values that begin anywhere. Lower bound: reads and writes kept rows once.
struct DecodeRows {
  static constexpr int kWidth = kVectorBytes / sizeof(float);
  DecodePlan plan;
  Divider attributes;
  const std::int64_t* ends;  // (images): kept rows up to the end of the image
  float* rows;
  std::int64_t values;

  FROST_HD void operator()(std::int64_t i) const {
    const std::int64_t first = i * kWidth, left = values - first;
    const int count = left < kWidth ? static_cast<int>(left) : kWidth;
    auto [row, attribute] = divide(first, attributes);
    DecodePlace place = place_of(row);
    Lanes<kWidth> out{};
    FROST_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      if (j >= count) continue;
      if (attribute == attributes.divisor()) attribute = 0, place = place_of(++row);
      out[j] = value(place, static_cast<int>(attribute++));
    }
    store(rows + first, out, count);
  }

 private:
  FROST_HD DecodePlace place_of(std::int64_t row) const {
    int image = 0;
    while (row >= ends[image]) ++image;
    const std::int64_t in_image = row - (image > 0 ? ends[image - 1] : 0);
    return plan.place(image, plan.kept[std::int64_t{image} * plan.predictions + in_image]);
  }
  FROST_HD float value(const DecodePlace& p, int k) const {
    const DecodeLevel& l = plan.level[p.level];
    const float s = math::sigmoid(load_value(l.head, l.type, p.at + k));
    if (k < 2) return math::decode_centre(s, static_cast<float>(k == 0 ? p.column : p.row), l.stride);
    if (k < 4) return math::decode_size(s, k == 2 ? l.anchor_w[p.anchor] : l.anchor_h[p.anchor], l.stride);
    return s;
  }
};

/// Waits for the device once, for the number of rows.
template <class Launcher>
DecodedRows detect_decode(const Launcher& launch, const DetectDecode& d) {
  check_detect_decode(d);
  check_levels("detect_decode", d.levels);
  DecodePlan p{};
  p.levels = static_cast<int>(d.levels.size());
  p.images = static_cast<int>(d.levels.front().head.shape.n);
  p.attributes = static_cast<int>(5 + d.classes);
  p.threshold = d.conf_threshold;
  std::int64_t predictions = 0;
  for (int i = 0; i < p.levels; ++i) {
    DecodeLevel& l = p.level[i];
    static_cast<HeadLevel&>(l) = head_level("detect_decode", d.levels[static_cast<std::size_t>(i)]);
    l.first = static_cast<int>(predictions);
    predictions += std::int64_t{l.rows} * l.columns * l.anchors;
    FROST_CHECK(fits_int32(predictions), "detect_decode: more than 2^31 predictions in an image");
  }
  p.predictions = static_cast<int>(predictions);
  p.blocks = static_cast<int>((predictions + 255) / 256);
  DecodedRows rows{.counts = std::vector<std::int64_t>(static_cast<std::size_t>(p.images))};
  if (predictions == 0 || p.images == 0) return rows;

  std::int64_t* ends = nullptr;
  const auto cut_all = [&](void* memory) {
    Cut cut(memory);
    p.counts = cut.take<std::int32_t>(std::int64_t{p.images} * p.blocks);
    p.offsets = cut.take<std::int32_t>(std::int64_t{p.images} * p.blocks);
    p.totals = cut.take<std::int32_t>(p.images);
    p.kept = cut.take<std::int32_t>(predictions * p.images);
    ends = cut.take<std::int64_t>(p.images);
    return cut.bytes();
  };
  cut_all(launch.scratch(cut_all(nullptr)));
  const std::int64_t blocks = std::int64_t{p.images} * p.blocks;
  launch.blocks(blocks, KeepPredictions<false>{p});
  launch.items(blocks, PlaceBlocks{p});
  launch.blocks(blocks, KeepPredictions<true>{p});
  launch.items(p.images, EndImages{p, ends});
  std::vector<std::int32_t> totals(static_cast<std::size_t>(p.images));
  launch.to_host(totals.data(), p.totals, totals.size() * sizeof(std::int32_t));

  std::copy(totals.begin(), totals.end(), rows.counts.begin());
  const std::int64_t values = std::accumulate(rows.counts.begin(), rows.counts.end(), std::int64_t{0}) * p.attributes;
  if (values == 0) return rows;
  rows.memory = launch.keep(static_cast<std::size_t>(values) * sizeof(float));
  launch.items((values + DecodeRows::kWidth - 1) / DecodeRows::kWidth,
               DecodeRows{p, Divider(p.attributes), ends, static_cast<float*>(rows.memory.get()), values});
  return rows;
}

}  // namespace frost::cuda
