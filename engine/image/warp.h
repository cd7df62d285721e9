#pragma once
#include <array>
#include <cstdint>

#include "engine/image/image.h"

namespace frost {

/// Row-major 3 x 3 matrix that takes (x, y, 1) of the source to the target.
using Matrix3 = std::array<double, 9>;

Matrix3 multiply(const Matrix3& a, const Matrix3& b);
inline constexpr Matrix3 kIdentity3 = {1, 0, 0, 0, 1, 0, 0, 0, 1};

/// Bilinear warps to a height x width image with the integers of OpenCV 4.6 (docs/spec/data.md section 8.4): equal bit for
/// bit. Pixels outside the source are `fill`. warp_affine uses the first two rows of the matrix. A matrix without an
/// inverse gives OpenCV's picture too (everything from one point). Throws Error for sides of 2^19 pixels or more.
Image warp_affine(const Image& source, const Matrix3& matrix, int height, int width, std::uint8_t fill = 114);
Image warp_perspective(const Image& source, const Matrix3& matrix, int height, int width, std::uint8_t fill = 114);

}  // namespace frost
