#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/image/image.h"

namespace frost {

/// 8-bit hue (0..179), saturation, value in the channels of an Image, as OpenCV's BGR2HSV; equal bit for bit.
Image bgr_to_hsv(const Image& bgr);

/// Back, as OpenCV's vector loop: results are truncated. Its scalar loop (widths that are no multiple of 32, last columns)
/// rounds, so single levels may differ there.
Image hsv_to_bgr(const Image& hsv);

/// Multiplies hue (modulo 180), saturation and value (clamped) by gains, in 8-bit HSV; docs/spec/data.md section 8.7.
void scale_hsv(Image& bgr, double hue, double saturation, double value);

void flip_columns(Image& image);  // left-right
void flip_rows(Image& image);     // up-down

/// Exchanges the first and third byte of every pixel; `in` and `out` may be the same.
void swap_red_blue(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels);

/// Writes the image into one slot of a batch: height * width * 3 bytes, channels R, G, B.
void pack_rgb(const Image& bgr, std::uint8_t* rgb);

}  // namespace frost
