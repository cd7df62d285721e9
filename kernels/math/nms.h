#pragma once
#include <cmath>

#include "kernels/math/box_iou.h"

namespace frost::math {

/// By so many pixels boxes of each next class are moved apart before overlaps are measured (docs/spec/val.md section 3).
inline constexpr float kClassOffset = 7680;

/// A decoded row begins with centre, width and height.
FROST_HD Corners<float> corners_of(const float* row) {
  return {row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2};
}

/// The largest float that is not above the threshold: comparing with it decides like the comparison in double.
inline float strict_threshold(double threshold) {
  const auto nearest = static_cast<float>(threshold);
  return static_cast<double>(nearest) > threshold ? std::nextafter(nearest, 0.0f) : nearest;
}

}  // namespace frost::math
