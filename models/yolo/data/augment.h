#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/rng.h"
#include "engine/image/image.h"
#include "engine/image/warp.h"
#include "models/yolo/data/labels.h"

/// Training augmentation, docs/spec/data.md sections 7 and 8. Functions that use random numbers take them as arguments or
/// are split into "draw" and "apply", so that a test can apply known draws. All of them run on the calling thread.
namespace frost::yolo {

/// The hyperparameters that act on data, under YOLOv5's names and with the values of hyp.scratch-low.
struct AugmentParams {
  double hsv_h = 0.015, hsv_s = 0.7, hsv_v = 0.4;  // gains, as fractions
  double degrees = 0, translate = 0.1, scale = 0.5, shear = 0, perspective = 0;
  double flipud = 0, fliplr = 0.5, mosaic = 1, mixup = 0, copy_paste = 0;  // probabilities
};

/// A label in pixels: class and corners.
struct PixelBox {
  float cls = 0, x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

/// A picture being augmented. Polygons are x0 y0 x1 y1 ... in pixels; polygon i belongs to box i, the list may be shorter.
struct Sample {
  Image image;
  std::vector<PixelBox> boxes;
  std::vector<Segment> segments;
};

/// The loader's input: a picture after its first resize (docs/spec/data.md section 6), its labels as fractions. A shared
/// pointer, so that an image cache gives its picture without a copy; the spans must stay valid while the item is made.
struct LoadedImage {
  std::shared_ptr<const Image> image;
  std::span<const LabelRow> rows;
  std::span<const Segment> segments;
};

/// Fractions of width x height to pixels, moved by pad; and back, after clipping to the image less 0.001 pixels.
PixelBox to_pixels(const LabelRow& row, float width, float height, float pad_x, float pad_y);
LabelRow to_fractions(const PixelBox& box, int width, int height);

/// Four pictures around the point (centre_y, centre_x) of a 2 size x 2 size canvas: top left, top right, bottom left, bottom
/// right (docs/spec/data.md section 8.1, steps 3 and 4).
Sample make_mosaic(std::span<const LoadedImage, 4> tiles, int size, int centre_y, int centre_x);

struct MosaicPlan {
  int centre_y = 0, centre_x = 0;
  std::array<std::int64_t, 4> tiles{};  // image indices
};
/// Steps 1 and 2. `index_list` holds the indices to draw from.
MosaicPlan draw_mosaic(std::int64_t index, std::span<const std::int64_t> index_list, int size, Rng& rng);

/// Copy-paste (docs/spec/data.md section 8.3): mirrored copies of objects with polygons, where they hide little. Does
/// nothing, and draws nothing, for p = 0.
void copy_paste(Sample& sample, double p, Rng& rng);

/// The eight numbers of docs/spec/data.md section 8.4, in the order in which they are drawn.
struct PerspectiveDraws {
  double perspective_x = 0, perspective_y = 0;
  double angle = 0, scale = 1;                  // degrees
  double shear_x = 0, shear_y = 0;              // degrees
  double translate_x = 0.5, translate_y = 0.5;  // where the centre goes, as a fraction of the result
};
PerspectiveDraws draw_perspective(const AugmentParams& params, Rng& rng);

/// T S R P C for a height x width image and a result of out_height x out_width.
Matrix3 perspective_matrix(const PerspectiveDraws& draws, int height, int width, int out_height, int out_width);

/// Warps picture and labels; the result is larger by twice the border (a negative one crops). `perspective` chooses the full
/// warp. Polygons are used for the new boxes and then dropped, as nothing later reads them.
Sample random_perspective(Sample sample, const PerspectiveDraws& draws, bool perspective, int border_y, int border_x);

/// The filter of docs/spec/data.md section 8.4: is the box after a warp (x1..y2 of `after`) still large enough to keep?
/// `before` is scaled already.
bool box_candidate(const std::array<double, 4>& before, const std::array<double, 4>& after, double area_threshold);

/// Mixup (docs/spec/data.md section 8.5): first * ratio + second * (1 - ratio), labels of both. The pictures have equal
/// sizes.
void mixup(Sample& first, const Sample& second, double ratio);
double draw_mixup_ratio(Rng& rng);  // Beta(32, 32)

void flip_left_right(Image& image, std::vector<LabelRow>& rows);
void flip_up_down(Image& image, std::vector<LabelRow>& rows);

/// A finished item: height x width BGR picture, labels as fractions of it.
struct TrainingItem {
  Image image;
  std::vector<LabelRow> rows;
};

/// What an item is made of, apart from its index.
struct ItemSource {
  std::function<LoadedImage(std::int64_t index)> load;
  std::span<const std::int64_t> index_list;  // tiles of a mosaic are drawn from here
  std::int64_t count = 0;                    // of images; the partner for mixup is drawn from all of them
  int size = 640;
  int height = 640, width = 640;  // the batch shape where no mosaic is made
  bool rectangular = false;       // never a mosaic
  AugmentParams params;
};

/// One item with all augmentation, the random numbers drawn in the order of docs/spec/data.md section 8.10 (Albumentations
/// left out).
TrainingItem training_item(std::int64_t index, const ItemSource& source, Rng& rng);

}  // namespace frost::yolo
