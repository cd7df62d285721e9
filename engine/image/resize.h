#pragma once
#include <cstdint>

#include "engine/image/image.h"

namespace frost {

/// Bilinear resizing with the integers of OpenCV 4.6 (docs/spec/data.md section 6): equal bit for bit.
Image resize_linear(const Image& source, int height, int width);

/// OpenCV's INTER_AREA: averages the covered pixels when shrinking; where a side grows, a form of bilinear.
Image resize_area(const Image& source, int height, int width);

/// Bilinear resizing in which a shrinking side averages over a triangle that widens with the scale: Pillow's BILINEAR, which
/// torchvision uses; equal bit for bit.
Image resize_antialiased(const Image& source, int height, int width);

/// The part of height x width whose top left corner is (top, left). Throws Error where that is not all inside.
Image crop(const Image& source, int top, int left, int height, int width);

/// YOLOv5's first resize: the longer side becomes `size` (its truncation can give size - 1), area averaging only where
/// `area_when_shrinking` (validation) and the image shrinks. An image that fits already is returned as it is.
Image resize_longest(Image source, int size, bool area_when_shrinking);

struct LetterboxOptions {
  int height = 640, width = 640;  // the target
  bool minimal = false;           // YOLOv5's `auto`: pad only to the next multiple of stride
  bool stretch = false;           // `scaleFill`: no padding, aspect ratio not kept (ignored with minimal)
  bool enlarge = true;            // `scaleup`: false only shrinks
  int stride = 32;
  std::uint8_t fill = 114;
};

/// The picture's position. The pads are the unrounded halves that box conversions use, not the pixels (top, left, ...).
struct Letterbox {
  double ratio_w = 1, ratio_h = 1, pad_w = 0, pad_h = 0;
  int picture_h = 0, picture_w = 0, top = 0, bottom = 0, left = 0, right = 0;
  int height() const { return top + picture_h + bottom; }
  int width() const { return left + picture_w + right; }
};
struct LetterboxResult {
  Image image;
  Letterbox box;
};

Letterbox plan_letterbox(int height, int width, const LetterboxOptions& options);
LetterboxResult letterbox(const Image& source, const LetterboxOptions& options);

/// Letterboxes straight into one image of a batch: rgb takes height() * width() * 3 bytes in the order R, G, B.
Letterbox letterbox_rgb(const Image& source, const LetterboxOptions& options, std::uint8_t* rgb);

}  // namespace frost
