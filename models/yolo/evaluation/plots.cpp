#include "models/yolo/evaluation/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/image/resize.h"

namespace frost::yolo {
namespace {

constexpr std::array<Colour, 20> kPalette = {{
    {0xFF, 0x38, 0x38}, {0xFF, 0x9D, 0x97}, {0xFF, 0x70, 0x1F}, {0xFF, 0xB2, 0x1D}, {0xCF, 0xD2, 0x31},
    {0x48, 0xF9, 0x0A}, {0x92, 0xCC, 0x17}, {0x3D, 0xDB, 0x86}, {0x1A, 0x93, 0x34}, {0x00, 0xD4, 0xBB},
    {0x2C, 0x99, 0xA8}, {0x00, 0xC2, 0xFF}, {0x34, 0x45, 0x93}, {0x64, 0x73, 0xFF}, {0x00, 0x18, 0xEC},
    {0x84, 0x38, 0xFF}, {0x52, 0x00, 0x85}, {0xCB, 0x38, 0xFF}, {0xFF, 0x95, 0xC8}, {0xFF, 0x37, 0xC7},
}};
constexpr Colour kWhite{255, 255, 255}, kGrey{220, 220, 220};

int pixel(float x) { return static_cast<int>(std::lround(std::clamp(x, -1e6f, 1e6f))); }

// The first `count` characters; no character is split.
std::string first_characters(const std::string& text, std::size_t count) {
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if ((static_cast<unsigned char>(text[at]) & 0xc0) != 0x80 && count-- == 0) break;
  return text.substr(0, at);
}

}  // namespace

Colour class_colour(int label) { return kPalette[static_cast<std::size_t>(label < 0 ? 0 : label) % kPalette.size()]; }

void draw_boxes(Image& image, std::span<const DrawnBox> boxes, const std::vector<std::string>& names,
                const BoxStyle& style) {
  const int half = (image.height + image.width) / 2;
  const int line = style.line ? style.line : std::max(2, half * 3 / 1000);
  const int scale = style.line ? std::max(1, style.line * 2 / 3) : std::max(1, half / 400), margin = scale;
  for (const auto& b : boxes) {
    const auto index = static_cast<std::size_t>(b.label);
    std::string text = b.label >= 0 && index < names.size() ? names[index] : std::to_string(b.label);
    if (b.confidence && style.confidences) text += fmt::format(" {:.{}f}", *b.confidence, style.decimals);
    const Colour colour = class_colour(b.label);
    const int x1 = pixel(b.box.x1), y1 = pixel(b.box.y1);
    draw_box(image, x1, y1, pixel(b.box.x2), pixel(b.box.y2), colour, line);
    if (!style.labels) continue;
    const int tab = text_height(scale) + 2 * margin;
    const int top = y1 >= tab ? y1 - tab : std::max(y1, 0);  // above the box where there is room, otherwise inside
    const int left = std::max(x1, 0);
    fill_box(image, left, top, left + text_width(text, scale) + 2 * margin - 1, top + tab - 1, colour);
    draw_text(image, left + margin, top + margin, text, kWhite, scale);
  }
}

Image draw_image_grid(std::span<const GridImage> images, const std::vector<std::string>& names, int side, int most) {
  const int count = std::min(static_cast<int>(images.size()), most);
  if (count == 0) return {};
  int h = 0, w = 0;
  for (const auto& item : images.first(static_cast<std::size_t>(count)))
    h = std::max(h, item.image.height), w = std::max(w, item.image.width);
  const int cells = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(count))));
  const double shrink = std::min(1.0, static_cast<double>(side) / cells / std::max(h, w));
  const auto scaled = [shrink](int n) { return static_cast<int>(std::ceil(shrink * n)); };
  const int cell_h = scaled(h), cell_w = scaled(w);

  Image grid(cell_h * cells, cell_w * cells, 255);
  for (int i = 0; i < count; ++i) {
    const GridImage& item = images[static_cast<std::size_t>(i)];
    Image cell(cell_h, cell_w, 255);
    if (shrink < 1)
      paste(cell, resize_area(item.image, scaled(item.image.height), scaled(item.image.width)), 0, 0);
    else
      paste(cell, item.image, 0, 0);
    std::vector<DrawnBox> boxes;
    for (DrawnBox b : item.boxes) {
      if (b.confidence && !(*b.confidence > 0.25f)) continue;
      const auto s = static_cast<float>(shrink);
      b.box = {b.box.x1 * s, b.box.y1 * s, b.box.x2 * s, b.box.y2 * s};
      boxes.push_back(b);
    }
    draw_box(cell, 0, 0, cell_w - 1, cell_h - 1, kWhite, 1);  // two neighbours make a border of two pixels
    draw_text(cell, 5, 5, first_characters(item.title, 40), kGrey, std::max(1, cell_w / 320));
    draw_boxes(cell, boxes, names);
    paste(grid, cell, i / cells * cell_w, i % cells * cell_h);
  }
  return grid;
}

}  // namespace frost::yolo
