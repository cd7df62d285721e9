#pragma once
#include "kernels/math/portable.h"

namespace frost::math {

/// Which cells answer for a target (docs/spec/loss.md section 2): one target, one anchor and one group at a time. Group 0 is
/// the target's own cell; groups 1 to 4 are the neighbours left, above, right, below. A level's list of assignments runs
/// over groups, then anchors, then targets; where entries share a prediction, the last one of the list decides about
/// objectness: the one with the largest (group * anchors + anchor) * targets + target. Floats, as in the reference: the
/// comparisons are strict, and values on the edge matter.
constexpr int kAssignGroups = 5;

struct GridTarget {
  float x, y, w, h;
};  // in cells of the level
struct Grid {
  int columns, rows;
};
struct Cell {
  int column, row;
};

FROST_HD GridTarget to_grid(float x, float y, float w, float h, Grid grid) {
  const float columns = static_cast<float>(grid.columns), rows = static_cast<float>(grid.rows);
  return {x * columns, y * rows, w * columns, h * rows};
}

/// Does the anchor fit: is neither side more than `limit` times longer or shorter? A side of 0 fits no anchor.
FROST_HD bool anchor_fits(const GridTarget& t, float anchor_w, float anchor_h, float limit) {
  const float w = t.w / anchor_w, h = t.h / anchor_h;
  return w < limit && h < limit && 1 / w < limit && 1 / h < limit;
}

// Is v in the first half of its cell, and is there a cell before it?
FROST_HD bool leans_back(float v) { return v > 1 && v - std::floor(v) < 0.5f; }

FROST_HD bool in_group(int group, const GridTarget& t, Grid grid) {
  switch (group) {
    case 1:
      return leans_back(t.x);
    case 2:
      return leans_back(t.y);
    case 3:
      return leans_back(static_cast<float>(grid.columns) - t.x);
    case 4:
      return leans_back(static_cast<float>(grid.rows) - t.y);
    default:
      return true;
  }
}

// Clamped as a float: a conversion to int is defined for small values only.
FROST_HD int clamped_index(float v, int count) {
  const float last = static_cast<float>(count - 1);
  return static_cast<int>(v < 0 ? 0.0f : v > last ? last : v);
}

/// The group's cell, inside the grid. A centre exactly on a line has its own cell in group 3 or 4 once more.
FROST_HD Cell cell_of(int group, const GridTarget& t, Grid grid) {
  const float dx = group == 1 ? 0.5f : group == 3 ? -0.5f : 0.0f, dy = group == 2 ? 0.5f : group == 4 ? -0.5f : 0.0f;
  return {clamped_index(t.x - dx, grid.columns), clamped_index(t.y - dy, grid.rows)};
}

/// A target as DetectLoss has it: image and class as numbers, the box normalised to 0..1.
struct TargetRow {
  float image, label, x, y, w, h;
};
enum class TargetState { padding, possible, impossible };
FROST_HD TargetState state_of(const TargetRow& t, float batch, float classes) {
  if (t.image < 0) return TargetState::padding;
  const auto finite = [](float v) { return v - v == 0; };  // infinities and NaN leave NaN
  const bool numbers = finite(t.image) && finite(t.label) && finite(t.x) && finite(t.y) && finite(t.w) && finite(t.h);
  const bool possible = numbers && t.image < batch && t.label > -1 && t.label < classes && t.w >= 0 && t.h >= 0;
  return possible ? TargetState::possible : TargetState::impossible;
}

/// One entry of a level's list of assignments: which prediction answers for a target, and what it should say.
struct Assigned {
  std::int32_t image, anchor, row, column, label;
  float x, y, w, h;  // in cells; x, y relative to the cell's corner
};

/// Does the target have an entry for this group and anchor? Then `out` is the entry.
FROST_HD bool assign(const TargetRow& target, int group, std::int32_t anchor, float anchor_w, float anchor_h, float limit,
                     Grid grid, Assigned& out) {
  const GridTarget box = to_grid(target.x, target.y, target.w, target.h, grid);
  if (!anchor_fits(box, anchor_w, anchor_h, limit) || !in_group(group, box, grid)) return false;
  const Cell cell = cell_of(group, box, grid);
  out = {static_cast<std::int32_t>(target.image),
         anchor,
         cell.row,
         cell.column,
         static_cast<std::int32_t>(target.label),
         box.x - static_cast<float>(cell.column),
         box.y - static_cast<float>(cell.row),
         box.w,
         box.h};
  return true;
}

}  // namespace frost::math
