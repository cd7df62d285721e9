#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/image/draw.h"
#include "engine/image/image.h"
#include "models/yolo/boxes.h"

namespace frost::yolo {

/// The colour of a class: twenty, then from the start again (docs/spec/val.md section 8).
Colour class_colour(int label);

/// A box to draw: a label, or a prediction with its confidence.
struct DrawnBox {
  BoxXyxy box;  // pixels of the image it belongs to
  int label = 0;
  std::optional<float> confidence{};
};

struct BoxStyle {
  int line = 0;      // pixels, letters in proportion; 0: both grow with the image
  int decimals = 1;  // of a confidence
  bool labels = true, confidences = true;
};
/// Draws boxes with the class name (and the confidence) on a filled tab.
void draw_boxes(Image& image, std::span<const DrawnBox> boxes, const std::vector<std::string>& names,
                const BoxStyle& style = {});

struct GridImage {
  Image image;
  std::string title{};  // the file's name
  std::vector<DrawnBox> boxes{};
};
/// A square grid of the first `most` images of a batch, column by column, with white borders; at most `side` pixels long.
/// Predictions of confidence 0.25 or less are left out. Images smaller than the largest leave white.
Image draw_image_grid(std::span<const GridImage> images, const std::vector<std::string>& names, int side = 1920,
                      int most = 16);

}  // namespace frost::yolo
