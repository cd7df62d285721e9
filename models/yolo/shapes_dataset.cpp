#include "models/yolo/shapes_dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <numeric>

#include <fmt/format.h>

#include "engine/base/rng.h"
#include "engine/image/codec.h"
#include "kernels/error.h"

namespace frost {
namespace {

struct Point {
  double x, y;
};
struct Color {
  double r, g, b;
};
Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y}; }
double dot(Point a, Point b) { return a.x * b.x + a.y * b.y; }
double length(Point p) { return std::sqrt(dot(p, p)); }
double ramp(double v) { return std::clamp(v, 0.0, 1.0); }
double smooth(double v) { return v * v * (3 - 2 * v); }
Color mix(Color a, Color b, double t) { return {a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t}; }
Color scaled(Color c, double k) { return {c.r * k, c.g * k, c.b * k}; }
constexpr Color hex(unsigned rgb) { return {double(rgb >> 16), double(rgb >> 8 & 255), double(rgb & 255)}; }
double difference(Color a, Color b) {  // green weighs most, as to the eye
  const double r = a.r - b.r, g = a.g - b.g, bl = a.b - b.b;
  return std::sqrt(2 * r * r + 4 * g * g + 3 * bl * bl);
}

constexpr std::array<std::array<Color, 2>, 10> kGrounds = {{{hex(0xd9c7a3), hex(0xb99f73)},
                                                            {hex(0x5d6973), hex(0x39424a)},
                                                            {hex(0xbcd3e0), hex(0x8fb0c4)},
                                                            {hex(0x8d9a6c), hex(0x59663f)},
                                                            {hex(0xb8806c), hex(0x82513f)},
                                                            {hex(0xece8df), hex(0xcfc9bb)},
                                                            {hex(0x303648), hex(0x171a26)},
                                                            {hex(0xc0b6d2), hex(0x93879f)},
                                                            {hex(0xa5a199), hex(0x787469)},
                                                            {hex(0x6d9f9c), hex(0x3d6a69)}}};
constexpr std::array<Color, 12> kPaints = {hex(0xe4433d), hex(0xf28b30), hex(0xf5cb3d), hex(0x3fae5a),
                                           hex(0x22a59a), hex(0x3577d4), hex(0x5a4fcf), hex(0xc9428f),
                                           hex(0xf08fae), hex(0xf4f1ea), hex(0x22262b), hex(0x8a5a3b)};

/// A rotation by an angle whose half has a uniform tangent: no sin, no cos.
struct Turn {
  double c, s;
  explicit Turn(Rng& rng) {
    const double t = rng.uniform(-1, 1), sign = rng.below(2) ? 1 : -1;
    c = sign * (1 - t * t) / (1 + t * t);
    s = sign * 2 * t / (1 + t * t);
  }
  Point operator()(Point p) const { return {c * p.x + s * p.y, c * p.y - s * p.x}; }
};

// Signed distances to outlines of radius about 1: negative inside.
double to_box(Point p, double half_width, double half_height) {
  const Point q = {std::abs(p.x) - half_width, std::abs(p.y) - half_height};
  return length({std::max(q.x, 0.0), std::max(q.y, 0.0)}) + std::min(std::max(q.x, q.y), 0.0);
}
double to_polygon(Point p, std::span<const Point> corners) {
  double nearest = 1e30;
  bool inside = false;
  for (std::size_t i = 0, j = corners.size() - 1; i < corners.size(); j = i++) {
    const Point a = corners[i], b = corners[j], ab = b - a, ap = p - a;
    const double t = ramp(dot(ap, ab) / dot(ab, ab));
    nearest = std::min(nearest, length({ap.x - ab.x * t, ap.y - ab.y * t}));
    if ((a.y > p.y) != (b.y > p.y) && p.x < a.x + ab.x * (p.y - a.y) / ab.y) inside = !inside;
  }
  return inside ? -nearest : nearest;
}
constexpr std::array<Point, 3> kTriangle = {{{0, -1}, {0.8660254, 0.5}, {-0.8660254, 0.5}}};
constexpr std::array<Point, 10> kStar = {{{0, -1},
                                          {0.2704, -0.3722},
                                          {0.9511, -0.3090},
                                          {0.4375, 0.1421},
                                          {0.5878, 0.8090},
                                          {0, 0.4600},
                                          {-0.5878, 0.8090},
                                          {-0.4375, 0.1421},
                                          {-0.9511, -0.3090},
                                          {-0.2704, -0.3722}}};
constexpr std::array<std::string_view, 6> kNames = {"circle", "square", "triangle", "star", "ring", "cross"};

struct Shape {
  int cls;        // of the data set
  int kind;       // index into kNames
  Point centre;   // pixels
  double radius;  // pixels
  double aspect;  // of the square, height over width
  Turn turn;
  Point local(double x, double y) const {
    const Point p = turn({x - centre.x, y - centre.y});
    return {p.x / radius, p.y / radius};
  }
  /// Pixels from the outline.
  double distance(Point p) const {
    switch (kind) {
      case 0:
        return (length(p) - 0.95) * radius;
      case 1:
        return (to_box(p, 0.74, 0.74 * aspect) - 0.06) * radius;
      case 2:
        return (to_polygon(p, kTriangle) - 0.05) * radius;
      case 3:
        return (to_polygon(p, kStar) - 0.03) * radius;
      case 4:
        return (std::abs(length(p) - 0.74) - 0.22) * radius;
      default:
        return (std::min(to_box(p, 0.9, 0.28), to_box(p, 0.28, 0.9)) - 0.05) * radius;
    }
  }
};

/// Smooth random values in [0, 1): a lattice of hashed corners.
double value_noise(std::uint64_t key, double x, double y) {
  const double fx = std::floor(x), fy = std::floor(y);
  const auto ix = static_cast<std::int64_t>(fx), iy = static_cast<std::int64_t>(fy);
  const auto corner = [&](std::int64_t dx, std::int64_t dy) {
    return static_cast<double>(Rng::mix(key ^ static_cast<std::uint64_t>((ix + dx) * 0x10001 + (iy + dy))) >> 11) * 0x1p-53;
  };
  const double u = smooth(x - fx), v = smooth(y - fy);
  const double top = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * u,
               low = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * u;
  return top + (low - top) * v;
}
double cloud(std::uint64_t key, double x, double y) {  // three octaves, in [0, 1)
  return (4 * value_noise(key, x, y) + 2 * value_noise(key + 1, 2 * x, 2 * y) + value_noise(key + 2, 4 * x, 4 * y)) / 7;
}
/// 0..1..0 over a period of 1, with soft flanks.
double wave(double t) { return smooth(ramp(0.5 + 3 * (std::abs(2 * (t - std::floor(t)) - 1) - 0.5))); }

class Canvas {
 public:
  explicit Canvas(int size) : size_(size), pixels_(static_cast<std::size_t>(size) * size), owner_(pixels_.size(), -1) {}

  void ground(Rng& rng) {
    const auto& pair = kGrounds[static_cast<std::size_t>(rng.below(kGrounds.size()))];
    const auto kind = rng.below(4);
    const auto key = rng.next();
    const Turn turn(rng);
    const double period = size_ * (kind == 3 ? rng.uniform(0.05, 0.09) : rng.uniform(0.06, 0.2)),
                 cell = size_ * rng.uniform(0.12, 0.35);
    const double grain = rng.uniform(0.1, 0.45);
    for (int y = 0; y < size_; ++y)
      for (int x = 0; x < size_; ++x) {
        const Point p = turn({x + 0.5 - size_ * 0.5, y + 0.5 - size_ * 0.5});
        const double noise = cloud(key, x / cell, y / cell);
        double t = noise;
        if (kind == 1) t = ramp(0.5 + p.x / (1.3 * size_));  // gradient
        if (kind == 2) t = wave(p.x / period);               // stripes
        if (kind == 3) {                                     // dots, too small to pass for circles
          const Point q = {p.x / period - std::floor(p.x / period) - 0.5, p.y / period - std::floor(p.y / period) - 0.5};
          t = ramp((0.3 - length(q)) * period * 0.5 + 0.5);
        }
        at(x, y) = mix(pair[0], pair[1], kind == 0 ? smooth(t) : t * (1 - grain) + noise * grain);
      }
  }

  void draw(const Shape& shape, int id, Rng& rng) {
    const Color paint = contrasting_paint(shape, rng), dark = scaled(paint, 0.62);
    const auto fill = rng.below(4);
    const bool rim = rng.below(2) == 0;
    const double stripe = rng.uniform(0.35, 0.6), shadow = rng.uniform(0.1, 0.3);
    const double offset = 0.07 * shape.radius, softness = 0.2 * shape.radius + 1;
    each_pixel(shape, [&](int x, int y) {
      const double gap = shape.distance(shape.local(x + 0.5 - offset, y + 0.5 - offset));
      at(x, y) = scaled(at(x, y), 1 - shadow * smooth(ramp(0.5 - gap / softness)));
    });
    each_pixel(shape, [&](int x, int y) {
      const Point p = shape.local(x + 0.5, y + 0.5);
      const double gap = shape.distance(p), cover = ramp(0.5 - gap);  // one pixel of soft edge
      if (cover <= 0) return;
      Color c = paint;
      if (fill == 1) c = scaled(paint, 0.94 - 0.22 * (x + y - shape.centre.x - shape.centre.y) / (2 * shape.radius));
      if (fill == 2) c = mix(paint, dark, 0.8 * wave(p.x / stripe));
      if (rim) c = mix(c, dark, ramp(gap + 0.09 * shape.radius + 0.5));
      at(x, y) = mix(at(x, y), c, cover);
      if (gap < 0) owner_[index(x, y)] = id;
    });
  }

  /// The box of what is still visible of shape `id`, or nothing where less than 40 % of the shape is.
  bool label(const Shape& shape, int id, ShapeLabel& out) const {
    std::int64_t whole = 0, visible = 0;
    int left = size_, right = -1, top = size_, bottom = -1;
    const auto [first, last] = range(shape);
    for (int y = first.second; y < last.second; ++y)
      for (int x = first.first; x < last.first; ++x) {
        if (shape.distance(shape.local(x + 0.5, y + 0.5)) >= 0) continue;
        ++whole;
        if (x < 0 || y < 0 || x >= size_ || y >= size_ || owner_[index(x, y)] != id) continue;
        ++visible;
        left = std::min(left, x), right = std::max(right, x), top = std::min(top, y), bottom = std::max(bottom, y);
      }
    if (visible * 5 < whole * 2 || visible == 0) return false;
    const double n = size_;
    out = {shape.cls, (left + right + 1) / (2 * n), (top + bottom + 1) / (2 * n), (right + 1 - left) / n,
           (bottom + 1 - top) / n};
    return true;
  }

  /// What a camera adds: exposure, a little blur, a little noise.
  Image finish(Rng& rng) const {
    const bool blur = rng.below(3) == 0;
    const double exposure = rng.uniform(0.82, 1.1), noise = rng.uniform(0, 6);
    Image image(size_, size_);
    for (int y = 0; y < size_; ++y)
      for (int x = 0; x < size_; ++x) {
        Color c = at(x, y);
        if (blur) {
          Color sum = {0, 0, 0};
          for (int dy = -1; dy <= 1; ++dy)
            for (int dx = -1; dx <= 1; ++dx) {
              const Color near = at(std::clamp(x + dx, 0, size_ - 1), std::clamp(y + dy, 0, size_ - 1));
              const double weight = (2 - std::abs(dx)) * (2 - std::abs(dy)) / 16.0;
              sum = {sum.r + near.r * weight, sum.g + near.g * weight, sum.b + near.b * weight};
            }
          c = sum;
        }
        std::uint64_t bits = rng.next();
        std::uint8_t* out = image.at(y, x);
        for (const double v : {c.b, c.g, c.r}) {
          const auto two = static_cast<std::int64_t>((bits & 1023) + (bits >> 10 & 1023)) - 1023;  // a triangle, mean 0
          bits >>= 20;
          *out++ = static_cast<std::uint8_t>(
              std::clamp(std::floor(v * exposure + noise * static_cast<double>(two) / 1023 + 0.5), 0.0, 255.0));
        }
      }
    return image;
  }

 private:
  std::size_t index(int x, int y) const {
    return static_cast<std::size_t>(y) * static_cast<std::size_t>(size_) + static_cast<std::size_t>(x);
  }
  Color& at(int x, int y) { return pixels_[index(x, y)]; }
  const Color& at(int x, int y) const { return pixels_[index(x, y)]; }

  using Corner = std::pair<int, int>;
  static std::pair<Corner, Corner> range(const Shape& shape) {  // also outside the picture; room for the shadow
    const double reach = 1.25 * shape.radius + 2;
    const auto low = [&](double v) { return static_cast<int>(std::floor(v - reach)); };
    const auto high = [&](double v) { return static_cast<int>(std::floor(v + reach)) + 1; };
    return {{low(shape.centre.x), low(shape.centre.y)}, {high(shape.centre.x), high(shape.centre.y)}};
  }
  template <class Body>
  void each_pixel(const Shape& shape, Body&& body) const {
    const auto [first, last] = range(shape);
    for (int y = std::max(first.second, 0); y < std::min(last.second, size_); ++y)
      for (int x = std::max(first.first, 0); x < std::min(last.first, size_); ++x) body(x, y);
  }
  /// A paint that differs from what is under the shape: the first of eight that is far enough, else the farthest.
  Color contrasting_paint(const Shape& shape, Rng& rng) const {
    Color under = {0, 0, 0};
    double count = 0;
    each_pixel(shape, [&](int x, int y) {
      if (shape.distance(shape.local(x + 0.5, y + 0.5)) >= 0) return;
      const Color c = at(x, y);
      under = {under.r + c.r, under.g + c.g, under.b + c.b};
      ++count;
    });
    under = scaled(under, 1 / std::max(count, 1.0));
    Color best = kPaints[0];
    double farthest = -1;
    for (int attempt = 0; attempt < 8 && farthest < 300; ++attempt) {
      const Color& pure = kPaints[static_cast<std::size_t>(rng.below(kPaints.size()))];
      const Color paint = scaled(pure, rng.uniform(0.85, 1.0));  // one draw a statement: arguments have no order
      if (difference(paint, under) > farthest) farthest = difference(paint, under), best = paint;
    }
    return best;
  }

  int size_;
  std::vector<Color> pixels_;
  std::vector<int> owner_;  // the topmost shape at each pixel, -1: ground
};

}  // namespace

std::span<const std::string_view> shape_names() { return kNames; }

std::vector<int> first_shapes(int count) {
  FROST_CHECK(count >= 1 && count <= static_cast<int>(kNames.size()), "shapes: ", count, " classes asked for, 1..",
              kNames.size(), " are known");
  std::vector<int> shapes(static_cast<std::size_t>(count));
  std::iota(shapes.begin(), shapes.end(), 0);
  return shapes;
}

std::vector<int> named_shapes(const std::vector<std::string>& names) {
  std::vector<int> shapes;
  for (const std::string& name : names) {
    const auto found = std::find(kNames.begin(), kNames.end(), name);
    FROST_CHECK(found != kNames.end(), "shapes: '", name, "' is not one of ", fmt::format("{}", fmt::join(kNames, ", ")));
    shapes.push_back(static_cast<int>(found - kNames.begin()));
  }
  return shapes;
}

ShapesSample draw_shapes(const ShapesOptions& options, ShapesSplit split, std::uint64_t index) {
  FROST_CHECK(options.imgsz >= 32 && options.imgsz <= 8192, "shapes: imgsz ", options.imgsz, " is not in 32..8192");
  FROST_CHECK(!options.shapes.empty(), "shapes: no class is asked for");
  Rng rng(options.seed, static_cast<std::uint64_t>(split), index);
  Canvas canvas(options.imgsz);
  canvas.ground(rng);

  const double side = options.imgsz;
  std::vector<Shape> shapes;
  const auto wanted = 1 + rng.below(5);
  for (std::int64_t k = 0; k < wanted; ++k) {
    const int cls = static_cast<int>(rng.below(static_cast<std::int64_t>(options.shapes.size())));
    const double u = rng.uniform(),
                 radius = side * (0.085 + 0.07 * (u + u * u));  // 17 % to 45 % across, smaller ones more often
    const double aspect = rng.uniform(0.65, 1);
    const Turn turn(rng);
    for (int attempt = 0; attempt < 30; ++attempt) {
      const double low = 0.85 * radius, high = side - low;  // some reach a little over the edge
      const double x = rng.uniform(low, high), y = rng.uniform(low, high);
      const bool crowded = std::any_of(shapes.begin(), shapes.end(), [&](const Shape& other) {
        return length(other.centre - Point{x, y}) < 0.85 * (other.radius + radius);
      });
      if (crowded) continue;
      shapes.push_back({cls, options.shapes[static_cast<std::size_t>(cls)], {x, y}, radius, aspect, turn});
      break;
    }
  }
  for (std::size_t i = 0; i < shapes.size(); ++i) canvas.draw(shapes[i], static_cast<int>(i), rng);

  ShapesSample sample;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    ShapeLabel label{};
    if (canvas.label(shapes[i], static_cast<int>(i), label)) sample.labels.push_back(label);
  }
  sample.image = canvas.finish(rng);
  return sample;
}

void write_shapes_dataset(const std::filesystem::path& folder, const ShapesOptions& options, int train, int val) {
  const auto write_text = [](const std::filesystem::path& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary);
    out << text;
    out.close();
    FROST_CHECK(out.good(), path.string(), ": cannot be written");
  };
  const auto make_folder = [](const std::filesystem::path& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    FROST_CHECK(!error, path.string(), ": cannot make this folder: ", error.message());
  };
  for (const auto split : {ShapesSplit::train, ShapesSplit::val}) {
    const bool is_train = split == ShapesSplit::train;
    const auto images = folder / "images" / (is_train ? "train" : "val"),
               labels = folder / "labels" / (is_train ? "train" : "val");
    make_folder(images);
    make_folder(labels);
    for (int i = 0; i < (is_train ? train : val); ++i) {
      const ShapesSample sample = draw_shapes(options, split, static_cast<std::uint64_t>(i));
      std::string text;
      for (const ShapeLabel& l : sample.labels)
        text += fmt::format("{} {:.6f} {:.6f} {:.6f} {:.6f}\n", l.cls, l.x, l.y, l.w, l.h);
      write_jpeg(images / fmt::format("{:04d}.jpg", i), sample.image, 95);
      write_text(labels / fmt::format("{:04d}.txt", i), text);
    }
  }
  std::string yaml =
      "# Drawn by make-shapes.\npath: .  # the folder of this file\ntrain: images/train\nval: images/val\nnames:\n";
  for (std::size_t c = 0; c < options.shapes.size(); ++c)
    yaml += fmt::format("  {}: {}\n", c, kNames[static_cast<std::size_t>(options.shapes[c])]);
  write_text(folder / "shapes.yaml", yaml);
}

}  // namespace frost
