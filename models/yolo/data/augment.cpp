#include "models/yolo/data/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>

#include "engine/image/color.h"
#include "engine/image/resize.h"
#include "kernels/error.h"

namespace frost::yolo {
namespace {

constexpr std::uint8_t kFill = 114;

Segment segment_to_pixels(const Segment& segment, float width, float height, float pad_x, float pad_y) {
  Segment out(segment.size());
  for (std::size_t i = 0; i + 1 < out.size(); i += 2) {
    out[i] = width * segment[i] + pad_x;
    out[i + 1] = height * segment[i + 1] + pad_y;
  }
  return out;
}

struct Point {
  double x, y;
};

Point transformed(const Matrix3& m, double x, double y, bool perspective) {
  const double w = perspective ? m[6] * x + m[7] * y + m[8] : 1.0;
  return {(m[0] * x + m[1] * y + m[2]) / w, (m[3] * x + m[4] * y + m[5]) / w};
}

using Corners = std::array<double, 4>;  // x1, y1, x2, y2

/// The smallest box around the four moved corners, cut at the picture's border.
Corners moved_box(const PixelBox& box, const Matrix3& m, bool perspective, double width, double height) {
  const Point p[4] = {transformed(m, box.x1, box.y1, perspective), transformed(m, box.x2, box.y2, perspective),
                      transformed(m, box.x1, box.y2, perspective), transformed(m, box.x2, box.y1, perspective)};
  const auto [left, right] = std::minmax({p[0].x, p[1].x, p[2].x, p[3].x});
  const auto [top, bottom] = std::minmax({p[0].y, p[1].y, p[2].y, p[3].y});
  return {std::clamp(left, 0.0, width), std::clamp(top, 0.0, height), std::clamp(right, 0.0, width),
          std::clamp(bottom, 0.0, height)};
}

/// The box around those of 1000 points along the moved, closed polygon that lie in the picture; zeros if none does.
Corners moved_segment(const Segment& segment, const Matrix3& m, bool perspective, double width, double height) {
  constexpr int kPoints = 1000;
  const std::size_t corners = segment.size() / 2;
  Corners box = {};
  bool any = false, any_x = false;
  for (int i = 0; corners > 0 && i < kPoints; ++i) {
    const double at = static_cast<double>(corners) * i / (kPoints - 1);
    const auto before = std::min(static_cast<std::size_t>(at), corners - 1);
    const std::size_t after = (before + 1) % corners;
    const double f = at - static_cast<double>(before);
    const auto between = [&](std::size_t axis) {
      const double a = segment[2 * before + axis], b = segment[2 * after + axis];
      return static_cast<double>(static_cast<float>(a + (b - a) * f));  // YOLOv5 keeps the points in single precision
    };
    const Point p = transformed(m, between(0), between(1), perspective);
    if (!(p.x >= 0 && p.y >= 0 && p.x <= width && p.y <= height)) continue;
    if (!any) box = {p.x, p.y, p.x, p.y};
    any = true;
    any_x = any_x || p.x != 0;
    box = {std::min(box[0], p.x), std::min(box[1], p.y), std::max(box[2], p.x), std::max(box[3], p.y)};
  }
  return any_x ? box : Corners{};
}

/// Sets mask pixels of a polygon's inside and border; points are truncated to whole pixels.
void fill_polygon(const Segment& segment, int height, int width, std::vector<std::uint8_t>& mask) {
  const std::size_t count = segment.size() / 2;
  std::vector<std::array<int, 2>> points(count);
  for (std::size_t i = 0; i < count; ++i)
    points[i] = {static_cast<int>(segment[2 * i]), static_cast<int>(segment[2 * i + 1])};
  const auto set = [&](int y, int from, int to) {  // both ends included
    if (y < 0 || y >= height) return;
    from = std::max(from, 0);
    to = std::min(to, width - 1);
    if (from <= to)
      std::memset(mask.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + from, 1,
                  static_cast<std::size_t>(to - from + 1));
  };
  const auto nearest = [](double v) { return static_cast<int>(std::lround(v)); };
  std::vector<double> crossings;
  for (int y = 0; y < height; ++y) {
    crossings.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const auto [x0, y0] = points[i];
      const auto [x1, y1] = points[(i + 1) % count];
      if ((y0 <= y) == (y1 <= y)) continue;
      crossings.push_back(x0 + static_cast<double>(y - y0) * (x1 - x0) / (y1 - y0));
    }
    std::sort(crossings.begin(), crossings.end());
    for (std::size_t i = 0; i + 1 < crossings.size(); i += 2) set(y, nearest(crossings[i]), nearest(crossings[i + 1]));
  }
  for (std::size_t i = 0; i < count; ++i) {  // the border itself
    const auto [x0, y0] = points[i];
    const auto [x1, y1] = points[(i + 1) % count];
    const int steps = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1});
    for (int s = 0; s <= steps; ++s) {
      const int x = nearest(x0 + static_cast<double>(x1 - x0) * s / steps);
      set(nearest(y0 + static_cast<double>(y1 - y0) * s / steps), x, x);
    }
  }
}

/// How much of `covered` is under `over`, as a fraction of its area.
float covered_share(const PixelBox& over, const PixelBox& covered) {
  const float w = std::min(over.x2, covered.x2) - std::max(over.x1, covered.x1);
  const float h = std::min(over.y2, covered.y2) - std::max(over.y1, covered.y1);
  const float area = (covered.x2 - covered.x1) * (covered.y2 - covered.y1) + 1e-7f;
  return std::max(w, 0.f) * std::max(h, 0.f) / area;
}

Sample mosaic_sample(std::int64_t index, const ItemSource& source, Rng& rng) {
  const MosaicPlan plan = draw_mosaic(index, source.index_list, source.size, rng);
  std::array<LoadedImage, 4> tiles;
  for (std::size_t i = 0; i < 4; ++i) tiles[i] = source.load(plan.tiles[i]);
  Sample sample = make_mosaic(tiles, source.size, plan.centre_y, plan.centre_x);
  copy_paste(sample, source.params.copy_paste, rng);
  const PerspectiveDraws draws = draw_perspective(source.params, rng);
  const int border = -((source.size + 1) / 2);
  return random_perspective(std::move(sample), draws, source.params.perspective != 0, border, border);
}

Sample letterboxed_sample(std::int64_t index, const ItemSource& source, Rng& rng) {
  const LoadedImage loaded = source.load(index);
  auto [image, box] = letterbox(*loaded.image, {.height = source.height, .width = source.width});
  Sample sample{std::move(image), {}, {}};
  const auto width = static_cast<float>(box.ratio_w * loaded.image->width);
  const auto height = static_cast<float>(box.ratio_h * loaded.image->height);
  for (const LabelRow& row : loaded.rows) {
    sample.boxes.push_back(to_pixels(row, width, height, static_cast<float>(box.pad_w), static_cast<float>(box.pad_h)));
  }
  return random_perspective(std::move(sample), draw_perspective(source.params, rng), source.params.perspective != 0, 0, 0);
}

}  // namespace

PixelBox to_pixels(const LabelRow& row, float width, float height, float pad_x, float pad_y) {
  return {row.cls, width * (row.x - row.w / 2) + pad_x, height * (row.y - row.h / 2) + pad_y,
          width * (row.x + row.w / 2) + pad_x, height * (row.y + row.h / 2) + pad_y};
}

LabelRow to_fractions(const PixelBox& box, int width, int height) {
  const auto w = static_cast<float>(width), h = static_cast<float>(height);
  const auto clip = [](float v, float side) { return std::clamp(v, 0.f, side - 0.001f); };
  const float x1 = clip(box.x1, w), y1 = clip(box.y1, h), x2 = clip(box.x2, w), y2 = clip(box.y2, h);
  return {box.cls, (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h};
}

Sample make_mosaic(std::span<const LoadedImage, 4> tiles, int size, int centre_y, int centre_x) {
  const int side = 2 * size;
  Sample sample{Image(side, side, kFill), {}, {}};
  for (std::size_t i = 0; i < 4; ++i) {
    const Image& tile = *tiles[i].image;
    const int left = i % 2 ? centre_x : centre_x - tile.width, top = i >= 2 ? centre_y : centre_y - tile.height;
    const int x1 = std::max(left, 0), x2 = std::min(left + tile.width, side);
    const int y1 = std::max(top, 0), y2 = std::min(top + tile.height, side);
    for (int y = y1; y < y2 && x1 < x2; ++y) {
      std::memcpy(sample.image.at(y, x1), tile.at(y - top, x1 - left), static_cast<std::size_t>(x2 - x1) * 3);
    }
    const auto w = static_cast<float>(tile.width), h = static_cast<float>(tile.height);
    const auto most = static_cast<float>(side);
    const auto clip = [most](float& v) { v = std::clamp(v, 0.f, most); };
    for (const LabelRow& row : tiles[i].rows) {
      PixelBox box = to_pixels(row, w, h, static_cast<float>(left), static_cast<float>(top));
      for (float* v : {&box.x1, &box.y1, &box.x2, &box.y2}) clip(*v);
      sample.boxes.push_back(box);
    }
    for (const Segment& segment : tiles[i].segments) {
      sample.segments.push_back(segment_to_pixels(segment, w, h, static_cast<float>(left), static_cast<float>(top)));
      std::for_each(sample.segments.back().begin(), sample.segments.back().end(), clip);
    }
  }
  return sample;
}

MosaicPlan draw_mosaic(std::int64_t index, std::span<const std::int64_t> index_list, int size, Rng& rng) {
  FROST_CHECK(!index_list.empty(), "mosaic: no images to draw from");
  const int border = (size + 1) / 2;
  MosaicPlan plan;
  plan.centre_y = static_cast<int>(rng.uniform(border, 2 * size - border));
  plan.centre_x = static_cast<int>(rng.uniform(border, 2 * size - border));
  plan.tiles[0] = index;
  for (std::size_t i = 1; i < 4; ++i)
    plan.tiles[i] = index_list[static_cast<std::size_t>(rng.below(std::ssize(index_list)))];
  for (std::size_t i = 3; i > 0; --i)
    std::swap(plan.tiles[i], plan.tiles[static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(i) + 1))]);
  return plan;
}

void copy_paste(Sample& sample, double p, Rng& rng) {
  const std::size_t count = std::min(sample.segments.size(), sample.boxes.size());
  if (p <= 0 || count == 0) return;
  Image& image = sample.image;
  const int width = image.width;
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto chosen = std::min(count, static_cast<std::size_t>(std::nearbyint(p * static_cast<double>(count))));
  std::vector<std::uint8_t> mask(image.pixels.size() / 3, 0);
  for (std::size_t i = 0; i < chosen; ++i) {
    std::swap(order[i], order[i + static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(count - i)))]);
    const PixelBox box = sample.boxes[order[i]];
    const auto side = static_cast<float>(width);
    const PixelBox mirrored = {box.cls, side - box.x2, box.y1, side - box.x1, box.y2};
    if (!std::all_of(sample.boxes.begin(), sample.boxes.end(),
                     [&](const PixelBox& b) { return covered_share(mirrored, b) < 0.30f; }))
      continue;
    Segment segment = sample.segments[order[i]];
    fill_polygon(segment, image.height, width, mask);
    for (std::size_t k = 0; k + 1 < segment.size(); k += 2) segment[k] = side - segment[k];
    sample.boxes.push_back(mirrored);
    sample.segments.push_back(std::move(segment));
  }
  std::vector<std::uint8_t> original(static_cast<std::size_t>(width) * 3);
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* row = mask.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
    if (!std::memchr(row, 1, static_cast<std::size_t>(width))) continue;
    std::memcpy(original.data(), image.at(y, 0), original.size());
    for (int x = 0; x < width; ++x) {
      if (row[x]) std::memcpy(image.at(y, width - 1 - x), original.data() + 3 * x, 3);
    }
  }
}

PerspectiveDraws draw_perspective(const AugmentParams& p, Rng& rng) {
  PerspectiveDraws d;
  d.perspective_x = rng.uniform(-p.perspective, p.perspective);
  d.perspective_y = rng.uniform(-p.perspective, p.perspective);
  d.angle = rng.uniform(-p.degrees, p.degrees);
  d.scale = rng.uniform(1 - p.scale, 1 + p.scale);
  d.shear_x = rng.uniform(-p.shear, p.shear);
  d.shear_y = rng.uniform(-p.shear, p.shear);
  d.translate_x = rng.uniform(0.5 - p.translate, 0.5 + p.translate);
  d.translate_y = rng.uniform(0.5 - p.translate, 0.5 + p.translate);
  return d;
}

Matrix3 perspective_matrix(const PerspectiveDraws& d, int height, int width, int out_height, int out_width) {
  const double degree = std::numbers::pi / 180, a = d.scale * std::cos(d.angle * degree),
               b = d.scale * std::sin(d.angle * degree);
  const Matrix3 centre = {1, 0, -width / 2.0, 0, 1, -height / 2.0, 0, 0, 1};
  const Matrix3 perspective = {1, 0, 0, 0, 1, 0, d.perspective_x, d.perspective_y, 1};
  const Matrix3 rotation = {a, b, 0, -b, a, 0, 0, 0, 1};
  const Matrix3 shear = {1, std::tan(d.shear_x * degree), 0, std::tan(d.shear_y * degree), 1, 0, 0, 0, 1};
  const Matrix3 translation = {1, 0, d.translate_x * out_width, 0, 1, d.translate_y * out_height, 0, 0, 1};
  return multiply(multiply(multiply(multiply(translation, shear), rotation), perspective), centre);
}

bool box_candidate(const std::array<double, 4>& before, const std::array<double, 4>& after, double area_threshold) {
  constexpr double kSide = 2, kAspect = 100, kEps = 1e-16;
  const double w1 = before[2] - before[0], h1 = before[3] - before[1], w2 = after[2] - after[0], h2 = after[3] - after[1];
  const double aspect = std::max(w2 / (h2 + kEps), h2 / (w2 + kEps));
  return w2 > kSide && h2 > kSide && w2 * h2 / (w1 * h1 + kEps) > area_threshold && aspect < kAspect;
}

Sample random_perspective(Sample sample, const PerspectiveDraws& draws, bool perspective, int border_y, int border_x) {
  const Image& image = sample.image;
  const int height = image.height + 2 * border_y, width = image.width + 2 * border_x;
  const Matrix3 m = perspective_matrix(draws, image.height, image.width, height, width);
  Sample out;
  if (border_x == 0 && border_y == 0 && m == kIdentity3) {
    out.image = std::move(sample.image);
  } else {
    out.image = perspective ? warp_perspective(image, m, height, width, kFill) : warp_affine(image, m, height, width, kFill);
  }
  const bool by_segments = std::any_of(sample.segments.begin(), sample.segments.end(), [](const Segment& s) {
    return std::any_of(s.begin(), s.end(), [](float v) { return v != 0; });
  });
  for (std::size_t i = 0; i < sample.boxes.size(); ++i) {
    const PixelBox& old = sample.boxes[i];
    Corners box = {};
    if (!by_segments) {
      box = moved_box(old, m, perspective, width, height);
    } else if (i <
               sample.segments.size()) {  // a label without a polygon among labels with: its box becomes empty, as upstream
      box = moved_segment(sample.segments[i], m, perspective, width, height);
    }
    const double g = draws.scale;
    if (box_candidate({old.x1 * g, old.y1 * g, old.x2 * g, old.y2 * g}, box, by_segments ? 0.01 : 0.10)) {
      out.boxes.push_back({old.cls, static_cast<float>(box[0]), static_cast<float>(box[1]), static_cast<float>(box[2]),
                           static_cast<float>(box[3])});
    }
  }
  return out;
}

void mixup(Sample& first, const Sample& second, double ratio) {
  FROST_CHECK(first.image.height == second.image.height && first.image.width == second.image.width, "mixup: images of ",
              first.image.width, " x ", first.image.height, " and ", second.image.width, " x ", second.image.height,
              " pixels");
  auto& a = first.image.pixels;
  const auto& b = second.image.pixels;
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<std::uint8_t>(a[i] * ratio + b[i] * (1 - ratio));
  first.boxes.insert(first.boxes.end(), second.boxes.begin(), second.boxes.end());
}

double draw_mixup_ratio(Rng& rng) {
  std::array<double, 63> draws;  // the k-th smallest of n uniform numbers is Beta(k, n + 1 - k)
  for (double& u : draws) u = rng.uniform();
  std::nth_element(draws.begin(), draws.begin() + 31, draws.end());
  return draws[31];
}

void flip_left_right(Image& image, std::vector<LabelRow>& rows) {
  flip_columns(image);
  for (LabelRow& row : rows) row.x = 1 - row.x;
}

void flip_up_down(Image& image, std::vector<LabelRow>& rows) {
  flip_rows(image);
  for (LabelRow& row : rows) row.y = 1 - row.y;
}

TrainingItem training_item(std::int64_t index, const ItemSource& source, Rng& rng) {
  const AugmentParams& p = source.params;
  Sample sample;
  if (!source.rectangular && rng.uniform() < p.mosaic) {
    sample = mosaic_sample(index, source, rng);
    if (rng.uniform() < p.mixup) {
      const Sample partner = mosaic_sample(rng.below(source.count), source, rng);
      mixup(sample, partner, draw_mixup_ratio(rng));
    }
  } else {
    sample = letterboxed_sample(index, source, rng);
  }
  TrainingItem item{std::move(sample.image), {}};
  item.rows.reserve(sample.boxes.size());
  for (const PixelBox& box : sample.boxes) item.rows.push_back(to_fractions(box, item.image.width, item.image.height));
  if (p.hsv_h != 0 || p.hsv_s != 0 || p.hsv_v != 0) {
    const double h = rng.uniform(-1, 1) * p.hsv_h + 1, s = rng.uniform(-1, 1) * p.hsv_s + 1,
                 v = rng.uniform(-1, 1) * p.hsv_v + 1;
    scale_hsv(item.image, h, s, v);
  }
  if (rng.uniform() < p.flipud) flip_up_down(item.image, item.rows);
  if (rng.uniform() < p.fliplr) flip_left_right(item.image, item.rows);
  return item;
}

}  // namespace frost::yolo
