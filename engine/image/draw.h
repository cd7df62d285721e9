#pragma once
#include <cstdint>
#include <string_view>

#include "engine/image/image.h"

namespace frost {

struct Colour {
  std::uint8_t r = 0, g = 0, b = 0;
  auto operator<=>(const Colour&) const = default;
};

/// Drawing on an Image. Coordinates are pixels, edges inclusive; what is outside the image is cut off. A filled box from
/// (x1, y1) to (x2, y2).
void fill_box(Image& image, int x1, int y1, int x2, int y2, Colour colour);
/// Its outline, `line` pixels wide, growing inwards.
void draw_box(Image& image, int x1, int y1, int x2, int y2, Colour colour, int line = 1);
/// Text in a 5 x 7 bitmap font, each of its dots scale x scale pixels, top left corner at (x, y). UTF-8; characters beyond
/// ASCII appear as a hollow box.
void draw_text(Image& image, int x, int y, std::string_view text, Colour colour, int scale = 1);
/// The pixels that draw_text covers.
int text_width(std::string_view text, int scale = 1);
int text_height(int scale = 1);
/// Copies `source` to (x, y).
void paste(Image& image, const Image& source, int x, int y);

}  // namespace frost
