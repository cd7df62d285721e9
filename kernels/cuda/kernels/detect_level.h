#pragma once
#include <algorithm>

#include "kernels/cuda/kernels/launch.cuh"
#include "kernels/detect.h"
#include "kernels/dispatch.h"

namespace frost::cuda {

inline constexpr int kMostLevels = 6, kMostAnchors = 12;

/// A DetectLevel as kernels hold it: fixed room, no vectors.
struct HeadLevel {
  const void* head;
  DType type;
  std::int64_t pitch;
  int images, rows, columns, anchors;
  float stride;
  float anchor_w[kMostAnchors], anchor_h[kMostAnchors];
};

inline void check_levels(const char* what, const std::vector<DetectLevel>& levels) {
  FROST_CHECK(levels.size() <= kMostLevels, what, ": ", levels.size(), " levels; CUDA has room for ", kMostLevels);
}
inline HeadLevel head_level(const char* what, const DetectLevel& from) {
  const Shape& s = from.head.shape;
  HeadLevel l{.head = from.head.data,
              .type = from.head.dtype,
              .pitch = from.head.pitch,
              .images = static_cast<int>(s.n),
              .rows = static_cast<int>(s.h),
              .columns = static_cast<int>(s.w),
              .anchors = static_cast<int>(from.anchors.size() / 2),
              .stride = from.stride,
              .anchor_w = {},
              .anchor_h = {}};
  with_float(l.type, what, [](auto) {});
  FROST_CHECK(l.anchors <= kMostAnchors, what, ": ", l.anchors, " anchors; CUDA has room for ", kMostAnchors);
  for (int a = 0; a < l.anchors; ++a) {
    l.anchor_w[a] = from.anchors[static_cast<std::size_t>(2 * a)];
    l.anchor_h[a] = from.anchors[static_cast<std::size_t>(2 * a + 1)];
  }
  return l;
}

/// The level of number i, where each level's numbers begin at `first`.
template <class Level, class Number>
FROST_HD int level_of(const Level* level, int levels, std::int64_t i, Number Level::*first) {
  int index = 0;
  while (index + 1 < levels && i >= level[index + 1].*first) ++index;
  return index;
}

}  // namespace frost::cuda
