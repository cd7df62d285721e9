#include "kernels/math/box_iou.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "tests/golden/golden.h"

using namespace frost::math;

namespace {

using Row = std::array<double, 4>;

IouKind kind_of(const std::string& mode) {
  return mode == "iou" ? IouKind::iou : mode == "giou" ? IouKind::giou : mode == "diou" ? IouKind::diou : IouKind::ciou;
}
template <class T>
Row row_of(const Box<T>& b) {
  return {b.x, b.y, b.w, b.h};
}
template <class T>
Row row_of(const Corners<T>& b) {
  return {b.x1, b.y1, b.x2, b.y2};
}
template <template <class> class Form, class T>
Form<T> box_of(const Row& r) {
  return {static_cast<T>(r[0]), static_cast<T>(r[1]), static_cast<T>(r[2]), static_cast<T>(r[3])};
}

struct GoldenErrors {
  double y = 0, ga = 0, gb = 0;
};  // largest absolute differences
template <template <class> class Form, class T>
GoldenErrors golden_errors(const frost::golden::File& file, const std::string& key, IouKind kind) {
  const auto a = file.at(key + ".a").f32(), b = file.at(key + ".b").f32(), gy = file.at(key + ".gy").f32();
  const auto y = file.at(key + ".y").f32(), ga = file.at(key + ".ga").f32(), gb = file.at(key + ".gb").f32();
  GoldenErrors worst;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const Row ra{a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3]}, rb{b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]};
    const auto r = box_iou_grad(box_of<Form, T>(ra), box_of<Form, T>(rb), kind);
    worst.y = std::max(worst.y, std::abs(static_cast<double>(r.value) - y[i]));
    const Row da = row_of(r.da), db = row_of(r.db);
    for (std::size_t k = 0; k < 4; ++k) {
      worst.ga = std::max(worst.ga, std::abs(da[k] * gy[i] - ga[4 * i + k]));
      worst.gb = std::max(worst.gb, std::abs(db[k] * gy[i] - gb[4 * i + k]));
    }
  }
  return worst;
}

// CIoU with alpha held at `alpha`, written from the definition, for the finite differences.
double ciou_with_alpha(const Extent<double>& a, const Extent<double>& b, double alpha) {
  const double angle = std::atan(b.w / b.h) - std::atan(a.w / a.h);
  return iou_with_grad(a, b, IouKind::diou).value - alpha * 4 / (M_PI * M_PI) * angle * angle;
}
double alpha_of(const Extent<double>& a, const Extent<double>& b) {
  const double angle = std::atan(b.w / b.h) - std::atan(a.w / a.h), v = 4 / (M_PI * M_PI) * angle * angle;
  return v / (v - iou_with_grad(a, b, IouKind::iou).value + 1 + 1e-7);
}

template <template <class> class Form>
void check_finite_differences(const Row& ra, const Row& rb, IouKind kind) {
  const auto a = box_of<Form, double>(ra), b = box_of<Form, double>(rb);
  const double alpha = alpha_of(extent(a), extent(b)), h = 1e-6;
  const auto value = [&](const Row& p, const Row& q) {
    const auto ep = extent(box_of<Form, double>(p)), eq = extent(box_of<Form, double>(q));
    return kind == IouKind::ciou ? ciou_with_alpha(ep, eq, alpha) : iou_with_grad(ep, eq, kind).value;
  };
  const auto grad = box_iou_grad(a, b, kind);
  CHECK(grad.value == doctest::Approx(value(ra, rb)).epsilon(1e-12));
  CHECK(box_iou(a, b, kind) == grad.value);
  const Row da = row_of(grad.da), db = row_of(grad.db);
  for (std::size_t k = 0; k < 4; ++k) {
    Row up = ra, down = ra;
    up[k] += h, down[k] -= h;
    CHECK(std::abs(da[k] - (value(up, rb) - value(down, rb)) / (2 * h)) < 1e-7);
    up = rb, down = rb;
    up[k] += h, down[k] -= h;
    CHECK(std::abs(db[k] - (value(ra, up) - value(ra, down)) / (2 * h)) < 1e-7);
  }
}

}  // namespace

TEST_CASE("box_iou: PyTorch's values and gradients, ties included") {
  const auto file = frost::golden::load("ops_bbox_iou");
  int cases = 0;
  for (const auto& [fact, text] : file.facts) {
    const auto dot = fact.find(".attributes");
    if (dot == std::string::npos) continue;
    const std::string key = fact.substr(0, dot);
    const auto attributes = file.fact_json(fact);
    const bool corners = attributes["format"] == "xyxy";
    const IouKind kind = kind_of(attributes["mode"]);
    INFO(key);
    ++cases;
    // double: only the file's own rounding to f32 is left, of numbers up to about 10.
    const auto exact =
        corners ? golden_errors<Corners, double>(file, key, kind) : golden_errors<Box, double>(file, key, kind);
    CHECK(exact.y < 1e-7);
    CHECK(exact.ga < 1e-6);
    CHECK(exact.gb < 1e-6);
    // float: PyTorch's own f32 run is off by up to 4e-7 (values) and 1.6e-6 (gradients).
    const auto single =
        corners ? golden_errors<Corners, float>(file, key, kind) : golden_errors<Box, float>(file, key, kind);
    CHECK(single.y < 1.5e-6);
    CHECK(single.ga < 6e-6);
    CHECK(single.gb < 6e-6);
  }
  CHECK(cases == 10);
}

TEST_CASE("box_iou: the fixtures of docs/spec/loss.md section 8.1") {
  struct Fixture {
    Row prediction, target;
    double iou, diou, ciou, giou;
    Row gradient;
  };
  const Fixture fixtures[] = {
      {{5, 5, 4, 2}, {5, 5, 4, 2}, 1, 1, 1, 1, {0, 0, 0, 0}},
      {{5, 5, 4, 2},
       {6, 5.5, 3, 3},
       0.4166667,
       0.3739316,
       0.3711164,
       0.3055556,
       {-0.2913379, -0.1773744, -0.0534358, -0.0881567}},
      {{5, 5, 4, 2},
       {12, 12, 2, 2},
       0,
       -0.5414365,
       -0.5431259,
       -0.8666667,
       {-0.0175208, -0.0235036, -0.0288634, -0.0290226}},
      {{0.3, 0.7, 1.2, 2.5},
       {0.5, 0.5, 1, 3},
       0.6,
       0.5925164,
       0.5924153,
       0.5615385,
       {-1.1022648, 0.0374182, -0.1337206, -0.1922510}},
      {{1, 1, 1, 1}, {1.5, 1, 1, 1}, 0.3333333, 0.2564102, 0.2564102, 0.3333333, {-1.1255752, 0, -0.2577252, -0.0236687}},
  };
  // Seven digits are printed, computed in f32.
  const auto near = [](double a, double b) { return std::abs(a - b) < 3e-7; };
  for (const Fixture& f : fixtures) {
    const auto a = box_of<Box, double>(f.prediction), b = box_of<Box, double>(f.target);
    CHECK(near(box_iou(a, b, IouKind::iou), f.iou));
    CHECK(near(box_iou(a, b, IouKind::diou), f.diou));
    CHECK(near(box_iou(a, b, IouKind::giou), f.giou));
    const auto ciou = box_iou_grad(a, b, IouKind::ciou);
    CHECK(near(ciou.value, f.ciou));
    const Row gradient = row_of(ciou.da);  // of CIoU; the table has that of 1 - CIoU
    for (std::size_t k = 0; k < 4; ++k) CHECK(near(-gradient[k], f.gradient[k]));
  }
}

TEST_CASE("box_iou: gradients are the derivatives of the values") {
  const Row boxes[][2] = {
      {{5, 5, 4, 2}, {6, 5.5, 3, 3}},              // overlap
      {{5, 5, 4, 2}, {12, 12.5, 2, 2.2}},          // apart both ways
      {{5, 5, 4, 2}, {5.3, 12, 2, 2}},             // apart one way
      {{5, 5, 6, 7}, {5.3, 5.2, 1.1, 2}},          // one inside the other
      {{0.3, 0.7, 1.2, 2.5}, {0.5, 0.5, 1, 3.1}},  // a head's sizes
      {{3, 2, 0.02, 5}, {3.001, 2.5, 4, 0.3}},     // slim
  };
  for (const auto& pair : boxes) {
    for (const IouKind kind : {IouKind::iou, IouKind::giou, IouKind::diou, IouKind::ciou}) {
      check_finite_differences<Box>(pair[0], pair[1], kind);
      const auto corners = [](const Row& r) {
        return Row{r[0] - r[2] / 2, r[1] - r[3] / 2, r[0] + r[2] / 2, r[1] + r[3] / 2};
      };
      check_finite_differences<Corners>(corners(pair[0]), corners(pair[1]), kind);
    }
  }
}

TEST_CASE("box_iou: boxes without area give numbers") {
  const Box<float> boxes[] = {{1, 1, 0, 0}, {1, 1, 2, 0},           {1, 1, 0, 2},
                              {1, 1, 2, 2}, {3, 3, 1e-20f, 1e-20f}, {0.1f, 0.3f, 0.7f, 1.1f}};
  for (const auto& a : boxes) {
    for (const auto& b : boxes) {
      for (const IouKind kind : {IouKind::iou, IouKind::giou, IouKind::diou, IouKind::ciou}) {
        const auto r = box_iou_grad(a, b, kind);
        CHECK(std::isfinite(r.value));
        for (const double d : row_of(r.da)) CHECK(std::isfinite(d));
        for (const double d : row_of(r.db)) CHECK(std::isfinite(d));
      }
    }
  }
}

TEST_CASE("decode_box: the middle of the range, and slopes by finite differences") {
  const auto middle = decode_box(Box<double>{0, 0, 0, 0}, 3.0, 5.0).box;
  CHECK(row_of(middle) == Row{0.5, 0.5, 3, 5});
  const Row logits{-1.3, 0.4, 2.2, -3.1};
  const Row slope = row_of(decode_box(box_of<Box, double>(logits), 3.0, 5.0).slope);
  for (std::size_t k = 0; k < 4; ++k) {
    Row up = logits, down = logits;
    up[k] += 1e-6, down[k] -= 1e-6;
    const double high = row_of(decode_box(box_of<Box, double>(up), 3.0, 5.0).box)[k];
    const double low = row_of(decode_box(box_of<Box, double>(down), 3.0, 5.0).box)[k];
    CHECK(slope[k] == doctest::Approx((high - low) / 2e-6).epsilon(1e-8));
  }
}
