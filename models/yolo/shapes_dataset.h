#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/image/image.h"

namespace frost {

/// A small detection data set that is drawn, not downloaded: coloured shapes on textured backgrounds, which a network can
/// learn within minutes. Few shapes overlap, few reach a little over the edge. A picture depends on these options, its
/// split and its index alone, bit for bit on any machine: only + - * / sqrt are used, never libm's sin or pow.
struct ShapesOptions {
  int imgsz = 320;                      // pixels, square
  std::vector<int> shapes{0, 1, 2, 3};  // the classes, in their order: indices into shape_names()
  std::uint64_t seed = 0;
};

/// circle, square, triangle, star, ring, cross.
std::span<const std::string_view> shape_names();
/// The first `count` of them, as ShapesOptions wants them.
std::vector<int> first_shapes(int count);
/// Named ones. Throws Error for an unknown name, naming the known ones.
std::vector<int> named_shapes(const std::vector<std::string>& names);

/// The box around what is visible of a shape: centre and size as fractions of the picture, as in a YOLO label file.
struct ShapeLabel {
  int cls;
  double x, y, w, h;
};
struct ShapesSample {
  Image image;
  std::vector<ShapeLabel> labels;  // shapes of which less than 40 % can be seen (hidden, or outside the picture) have none
};

enum class ShapesSplit { train, val };
ShapesSample draw_shapes(const ShapesOptions& options, ShapesSplit split, std::uint64_t index);

/// Writes images/{train,val}/NNNN.jpg, labels/{train,val}/NNNN.txt and, last, shapes.yaml. Files of the same names are
/// overwritten. Throws Error where the folder cannot be written.
void write_shapes_dataset(const std::filesystem::path& folder, const ShapesOptions& options, int train, int val);

}  // namespace frost
