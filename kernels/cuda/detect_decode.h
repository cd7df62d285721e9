#pragma once
#include <algorithm>
#include <vector>

#include "kernels/cuda/cut.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/value.h"
#include "kernels/detect_checks.h"
#include "kernels/dispatch.h"
#include "kernels/math/activation.h"
#include "kernels/math/decode.h"

/// Logits to rows over a launcher (run.h). Which predictions are kept is counted by blocks, then every block knows where its
/// own go: rows come in the order level, anchor, row, column, whatever order blocks run in. Only kept rows are decoded, and
/// only they leave the device.
namespace frost::cuda {

inline constexpr int kMostDecodeLevels = 6, kMostDecodeAnchors = 12;

struct DecodeLevel {
  const void* head;
  DType type;
  std::int64_t pitch;
  int rows, columns, anchors, first;  // first: number of the level's first prediction in its image
  float stride;
  float anchor_w[kMostDecodeAnchors], anchor_h[kMostDecodeAnchors];
};

/// A prediction's place: numbers run over level, anchor, row, column.
struct DecodePlace {
  int level, anchor, row, column;
  std::int64_t at;  // of its logits
};

struct DecodePlan {
  DecodeLevel level[kMostDecodeLevels];
  int levels, images, predictions, blocks;  // predictions, and blocks of 256 of them, to an image
  int attributes;
  float threshold;
  std::int32_t *counts, *offsets;  // (images, blocks): kept ones, and kept ones in the image's blocks before
  std::int32_t* kept;              // (images, predictions): numbers of kept predictions
  std::int32_t* totals;            // (images)

  FROST_HD DecodePlace place(int image, int number) const {
    int index = 0;
    while (index + 1 < levels && number >= level[index + 1].first) ++index;
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
/// Floor: reads one logit (a sector of 32 bytes) for each prediction, twice, the second time mostly from the cache.
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

/// Item: a block of KeepPredictions. Adds up what is in front of it: a few hundred numbers from the cache.
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

/// Item: one attribute of kept row first + i / attributes, counted over the images. Floor: reads and writes kept rows once.
struct DecodeRows {
  DecodePlan plan;
  const std::int64_t* ends;  // (images): kept rows up to the end of the image
  std::int64_t first;
  float* rows;

  FROST_HD void operator()(std::int64_t i) const {
    const std::int64_t in_chunk = i / plan.attributes, row = first + in_chunk;
    const auto k = static_cast<int>(i - in_chunk * plan.attributes);
    int image = 0;
    while (row >= ends[image]) ++image;
    const std::int64_t in_image = row - (image > 0 ? ends[image - 1] : 0);
    const DecodePlace p = plan.place(image, plan.kept[std::int64_t{image} * plan.predictions + in_image]);
    const DecodeLevel& l = plan.level[p.level];
    const float s = math::sigmoid(load_value(l.head, l.type, p.at + k));
    if (k < 2)
      rows[i] = math::decode_centre(s, static_cast<float>(k == 0 ? p.column : p.row), l.stride);
    else if (k < 4)
      rows[i] = math::decode_size(s, k == 2 ? l.anchor_w[p.anchor] : l.anchor_h[p.anchor], l.stride);
    else
      rows[i] = s;
  }
};

/// Waits for the device twice: for the number of rows, and for the rows.
template <class Launcher>
void detect_decode(const Launcher& launch, const DetectDecode& d) {
  check_detect_decode(d);
  FROST_CHECK(d.levels.size() <= kMostDecodeLevels, "detect_decode: ", d.levels.size(), " levels; CUDA has room for ",
              kMostDecodeLevels);
  DecodePlan p{};
  p.levels = static_cast<int>(d.levels.size());
  p.images = static_cast<int>(d.levels.front().head.shape.n);
  p.attributes = static_cast<int>(5 + d.classes);
  p.threshold = d.conf_threshold;
  std::int64_t predictions = 0;
  for (int i = 0; i < p.levels; ++i) {
    const DetectLevel& from = d.levels[static_cast<std::size_t>(i)];
    const ConstView& head = from.head;
    const std::size_t anchors = from.anchors.size() / 2;
    with_float(head.dtype, "detect_decode", [](auto) {});
    FROST_CHECK(anchors <= kMostDecodeAnchors, "detect_decode: ", anchors, " anchors; CUDA has room for ",
                kMostDecodeAnchors);
    DecodeLevel& l = p.level[i];
    l.head = head.data, l.type = head.dtype, l.pitch = head.pitch, l.stride = from.stride;
    l.rows = static_cast<int>(head.shape.h), l.columns = static_cast<int>(head.shape.w);
    l.anchors = static_cast<int>(anchors), l.first = static_cast<int>(predictions);
    for (std::size_t a = 0; a < anchors; ++a) l.anchor_w[a] = from.anchors[2 * a], l.anchor_h[a] = from.anchors[2 * a + 1];
    predictions += head.shape.h * head.shape.w * static_cast<std::int64_t>(anchors);
    FROST_CHECK(fits_int32(predictions), "detect_decode: more than 2^31 predictions in an image");
  }
  p.predictions = static_cast<int>(predictions);
  p.blocks = static_cast<int>((predictions + 255) / 256);
  d.rows->assign(static_cast<std::size_t>(p.images), {});
  if (predictions == 0 || p.images == 0) return;

  constexpr std::int64_t kChunkBytes = std::int64_t{64} << 20;  // rows under way at a time
  const std::int64_t row_bytes = std::int64_t{4} * p.attributes, all = predictions * p.images;
  const std::int64_t chunk = std::clamp<std::int64_t>(kChunkBytes / row_bytes, 1, all);
  std::int64_t* ends = nullptr;
  float* rows = nullptr;
  const auto cut_all = [&](void* memory) {
    Cut cut(memory);
    p.counts = cut.take<std::int32_t>(std::int64_t{p.images} * p.blocks);
    p.offsets = cut.take<std::int32_t>(std::int64_t{p.images} * p.blocks);
    p.totals = cut.take<std::int32_t>(p.images);
    p.kept = cut.take<std::int32_t>(all);
    ends = cut.take<std::int64_t>(p.images);
    rows = cut.take<float>(chunk * p.attributes);
    return cut.bytes();
  };
  cut_all(launch.scratch(cut_all(nullptr)));
  const std::int64_t blocks = std::int64_t{p.images} * p.blocks;
  launch.blocks(blocks, KeepPredictions<false>{p});
  launch.items(blocks, PlaceBlocks{p});
  launch.blocks(blocks, KeepPredictions<true>{p});
  std::vector<std::int32_t> totals(static_cast<std::size_t>(p.images));
  launch.to_host(totals.data(), p.totals, totals.size() * sizeof(std::int32_t));

  std::vector<std::int64_t> end_of_image;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < totals.size(); ++i) {
    end_of_image.push_back(total += totals[i]);
    (*d.rows)[i].resize(static_cast<std::size_t>(std::int64_t{totals[i]} * p.attributes));
  }
  if (total == 0) return;
  launch.to_device(ends, end_of_image.data(), end_of_image.size() * sizeof(std::int64_t));
  for (std::int64_t first = 0; first < total; first += chunk) {
    const std::int64_t last = std::min(total, first + chunk);
    launch.items((last - first) * p.attributes, DecodeRows{p, ends, first, rows});
    for (std::size_t i = 0; i < totals.size(); ++i) {
      const std::int64_t begins = end_of_image[i] - totals[i];
      const std::int64_t from = std::max(first, begins), to = std::min(last, end_of_image[i]);
      if (from < to)
        launch.to_host((*d.rows)[i].data() + (from - begins) * p.attributes, rows + (from - first) * p.attributes,
                       static_cast<std::size_t>((to - from) * row_bytes));
    }
  }
}

}  // namespace frost::cuda
