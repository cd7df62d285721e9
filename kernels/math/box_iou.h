#pragma once
#include "kernels/math/activation.h"
#include "kernels/math/portable.h"

namespace frost::math {

/// Overlap of two boxes and its derivatives (docs/spec/loss.md section 3.1). Every formula works on an Extent, the four
/// edges and the two sides, so that the centre form and the corner form share one body and differ only in the chain rule.
enum class IouKind : std::uint8_t { iou, giou, diou, ciou };

template <class T>
struct Box {
  T x, y, w, h;
};  // centre and size
template <class T>
struct Corners {
  T x1, y1, x2, y2;
};
template <class T>
struct Extent {
  T x1, y1, x2, y2, w, h;
};

template <class T>
constexpr T kIouEps = T(1e-7);

template <class T>
FROST_HD Extent<T> extent(const Box<T>& b) {
  const T w = b.w / 2, h = b.h / 2;
  return {b.x - w, b.y - h, b.x + w, b.y + h, b.w, b.h};
}
// The eps on the height alone is YOLOv5's.
template <class T>
FROST_HD Extent<T> extent(const Corners<T>& b) {
  return {b.x1, b.y1, b.x2, b.y2, b.x2 - b.x1, b.y2 - b.y1 + kIouEps<T>};
}

/// The gradient of a box's own numbers from the gradient of its extent.
template <class T>
FROST_HD void pull_back(const Extent<T>& d, Box<T>& db) {
  db = {d.x1 + d.x2, d.y1 + d.y2, d.w + (d.x2 - d.x1) / 2, d.h + (d.y2 - d.y1) / 2};
}
template <class T>
FROST_HD void pull_back(const Extent<T>& d, Corners<T>& db) {
  db = {d.x1 - d.w, d.y1 - d.h, d.x2 + d.w, d.y2 + d.h};
}

template <class T>
FROST_HD T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
FROST_HD T larger(T a, T b) {
  return a < b ? b : a;
}
// Of a minimum's gradient, the part that goes to the first argument; equal arguments get half each.
template <class T>
FROST_HD T share_of_smaller(T a, T b) {
  return a < b ? T(1) : a == b ? T(0.5) : T(0);
}

/// One direction (x or y) of two boxes: the overlap, the enclosing side and the distance of the centres, times two.
template <class T>
struct Span {
  T a1, a2, b1, b2;
  FROST_HD T overlap_or_gap() const { return smaller(a2, b2) - larger(a1, b1); }
  FROST_HD T overlap() const { return larger(T(0), overlap_or_gap()); }
  FROST_HD T hull() const { return larger(a2, b2) - smaller(a1, b1); }
  FROST_HD T twice_distance() const { return b1 + b2 - a1 - a2; }

  /// Gradients of a1, a2, b1, b2 from those of the three quantities.
  FROST_HD Span pull_back(T d_overlap, T d_hull, T d_twice_distance) const {
    const T low = share_of_smaller(a1, b1), high = share_of_smaller(a2, b2);  // share of the gradient that goes to a
    const T d = overlap_or_gap() >= 0 ? d_overlap : T(0);                     // the clamp passes the gradient at 0
    return {-(1 - low) * d - low * d_hull - d_twice_distance, high * d + (1 - high) * d_hull - d_twice_distance,
            -low * d - (1 - low) * d_hull + d_twice_distance, (1 - high) * d + high * d_hull + d_twice_distance};
  }
};

template <class T>
struct IouResult {
  T value;
  Extent<T> da, db;  // d value / d extent
};

/// The chosen overlap of a and b, and its derivatives for both. CIoU's alpha counts as a constant. Sides are not negative.
/// atan2 and the lower limit of alpha's denominator change no regular value; with them boxes without area give no NaN.
template <class T>
FROST_HD IouResult<T> iou_with_grad(const Extent<T>& a, const Extent<T>& b, IouKind kind) {
  const T eps = kIouEps<T>;
  const Span<T> sx{a.x1, a.x2, b.x1, b.x2}, sy{a.y1, a.y2, b.y1, b.y2};
  const T ow = sx.overlap(), oh = sy.overlap(), inter = ow * oh;
  const T unite = a.w * a.h + b.w * b.h - inter + eps, iou = inter / unite;
  const T cw = sx.hull(), ch = sy.hull();

  T value = iou, d_union = -iou / unite, d_cw = 0, d_ch = 0, d_dx = 0, d_dy = 0, d_aw = 0, d_ah = 0, d_bw = 0, d_bh = 0;
  if (kind == IouKind::giou) {
    const T hull = cw * ch + eps;
    value -= (hull - unite) / hull;
    d_union += 1 / hull;
    d_cw = -unite / (hull * hull) * ch;
    d_ch = -unite / (hull * hull) * cw;
  } else if (kind != IouKind::iou) {
    const T c2 = cw * cw + ch * ch + eps, dx = sx.twice_distance(), dy = sy.twice_distance();
    const T ratio = (dx * dx + dy * dy) / (4 * c2);  // squared distance of the centres over squared diagonal of the hull
    value -= ratio;
    d_cw = 2 * cw * ratio / c2;
    d_ch = 2 * ch * ratio / c2;
    d_dx = -dx / (2 * c2);
    d_dy = -dy / (2 * c2);
    if (kind == IouKind::ciou) {
      const T four_over_pi2 = T(0.40528473456935108577551785283891);
      const T angle = std::atan2(b.w, b.h) - std::atan2(a.w, a.h);
      const T v = four_over_pi2 * angle * angle;
      const T alpha = v / larger(v - iou + (1 + eps), eps);
      value -= alpha * v;
      const T d_angle = -alpha * 2 * four_over_pi2 * angle;
      const T a2 = a.w * a.w + a.h * a.h, b2 = b.w * b.w + b.h * b.h;
      if (a2 > 0) d_aw = -d_angle * a.h / a2, d_ah = d_angle * a.w / a2;
      if (b2 > 0) d_bw = d_angle * b.h / b2, d_bh = -d_angle * b.w / b2;
    }
  }

  const T d_inter = 1 / unite - d_union;  // the union shrinks as the intersection grows
  const Span<T> gx = sx.pull_back(d_inter * oh, d_cw, d_dx), gy = sy.pull_back(d_inter * ow, d_ch, d_dy);
  return {value,
          {gx.a1, gy.a1, gx.a2, gy.a2, d_aw + d_union * a.h, d_ah + d_union * a.w},
          {gx.b1, gy.b1, gx.b2, gy.b2, d_bw + d_union * b.h, d_bh + d_union * b.w}};
}

template <template <class> class Form, class T>
struct IouGrad {
  T value;
  Form<T> da, db;  // d value / d box
};
/// Form is Box (centre and size) or Corners. The parts of the result that are not read cost nothing once inlined.
template <template <class> class Form, class T>
FROST_HD IouGrad<Form, T> box_iou_grad(const Form<T>& a, const Form<T>& b, IouKind kind) {
  const IouResult<T> r = iou_with_grad(extent(a), extent(b), kind);
  IouGrad<Form, T> out{r.value, {}, {}};
  pull_back(r.da, out.da);
  pull_back(r.db, out.db);
  return out;
}
template <template <class> class Form, class T>
FROST_HD T box_iou(const Form<T>& a, const Form<T>& b, IouKind kind) {
  return iou_with_grad(extent(a), extent(b), kind).value;
}

/// A Detect head's box, relative to its cell, from the logits x y w h: centre 2s - 0.5, size (2s)^2 anchor, s = sigmoid.
/// Lengths are in the anchor's unit (grid cells). `slope` holds d box / d logit, number by number.
template <class T>
struct DecodedBox {
  Box<T> box, slope;
};
template <class T>
FROST_HD DecodedBox<T> decode_box(const Box<T>& logit, T anchor_w, T anchor_h) {
  const T x = sigmoid(logit.x), y = sigmoid(logit.y), w = sigmoid(logit.w), h = sigmoid(logit.h);
  return {{2 * x - T(0.5), 2 * y - T(0.5), 4 * w * w * anchor_w, 4 * h * h * anchor_h},
          {2 * x * (1 - x), 2 * y * (1 - y), 8 * w * w * (1 - w) * anchor_w, 8 * h * h * (1 - h) * anchor_h}};
}

/// One assignment's part of the box loss, 1 - CIoU: its value and its gradient for the four logits, times `scale`.
template <class T>
struct BoxTerm {
  T ciou;
  Box<T> d;
};
template <class T>
FROST_HD BoxTerm<T> box_term(const Box<T>& logit, T anchor_w, T anchor_h, const Box<T>& target, T scale) {
  const DecodedBox<T> decoded = decode_box(logit, anchor_w, anchor_h);
  const auto iou = box_iou_grad(decoded.box, target, IouKind::ciou);
  return {iou.value,
          {-(scale * iou.da.x * decoded.slope.x), -(scale * iou.da.y * decoded.slope.y),
           -(scale * iou.da.w * decoded.slope.w), -(scale * iou.da.h * decoded.slope.h)}};
}

}  // namespace frost::math
