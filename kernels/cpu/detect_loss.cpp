#include "kernels/cpu/detect_loss.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/detect_checks.h"
#include "kernels/math/assign.h"
#include "kernels/math/bce.h"
#include "kernels/math/box_iou.h"
#include "kernels/math/half.h"

namespace frost::cpu {
namespace {

/// Calls what with a value of the C++ type that stands for `type`: f32, bf16 or f16.
template <class What>
auto with_floating(DType type, What&& what) {
  if (type == DType::bf16) return what(math::bf16{});
  if (type == DType::f16) return what(math::f16{});
  return what(float{});
}
float load(const ConstView& v, std::int64_t i) {
  return with_floating(v.dtype, [&](auto type) { return math::to_float(v.as<decltype(type)>()[i]); });
}
void store(const View& v, std::int64_t i, float value) {
  with_floating(v.dtype, [&](auto type) { v.as<decltype(type)>()[i] = math::from_float<decltype(type)>(value); });
}
float rounded_to(DType type, float value) {
  return with_floating(type, [&](auto t) { return math::to_float(math::from_float<decltype(t)>(value)); });
}

struct Sums {
  double box = 0, obj = 0, cls = 0;
  void operator+=(const Sums& other) { box += other.box, obj += other.obj, cls += other.cls; }
};

/// Buffers that grow once and serve every later call.
struct Workspace {
  std::vector<Assigned> entries;
  std::vector<std::int32_t> newest;   // for each prediction the last entry of the list that chose it, or -1
  std::vector<std::int32_t> earlier;  // for each entry the one before it on the same prediction, or -1
  std::vector<Sums> row_sums;         // one a grid row: the total does not depend on the number of threads
};

/// One level of the loss: visits every prediction once and writes its whole gradient.
struct LevelPass {
  const DetectLossGains& gains;
  ConstView head;
  View dhead;  // empty: no gradient wanted
  const std::vector<float>& anchors;
  std::int64_t classes;
  float d_box, d_obj, d_cls;  // derivative of the returned loss for one term of each sum, times grad_scale
  Workspace& work;

  std::int64_t anchor_count() const { return static_cast<std::int64_t>(anchors.size() / 2); }
  std::int64_t attributes() const { return 5 + classes; }

  // Box and class losses of one entry, whose logits start at `at`. Adds to d (attributes); returns CIoU.
  float entry(const Assigned& e, std::int64_t at, Sums& sum, float* d) const {
    using math::Box;
    const auto anchor = static_cast<std::size_t>(2 * e.anchor);
    const Box<float> logit{load(head, at), load(head, at + 1), load(head, at + 2), load(head, at + 3)};
    const auto term = math::box_term(logit, anchors[anchor], anchors[anchor + 1], Box<float>{e.x, e.y, e.w, e.h}, d_box);
    sum.box += 1.0 - static_cast<double>(term.ciou);
    d[0] += term.d.x, d[1] += term.d.y, d[2] += term.d.w, d[3] += term.d.h;
    if (classes == 1) return term.ciou;
    const float smooth = 0.5f * gains.label_smoothing;
    for (std::int64_t c = 0; c < classes; ++c) {
      const float target = c == e.label ? 1 - smooth : smooth;
      const auto bce = math::bce_with_logits(load(head, at + 5 + c), target, gains.cls_pw, gains.fl_gamma);
      sum.cls += static_cast<double>(bce.value);
      d[5 + c] += d_cls * bce.slope;
    }
    return term.ciou;
  }

  // Lower bound: reads the objectness logits (and all logits of assigned predictions) once, writes the gradient once.
  void rows(std::int64_t first, std::int64_t last) const {
    const std::int64_t columns = head.shape.w, per_prediction = attributes();
    const auto pixel_bytes = static_cast<std::size_t>(head.shape.c) * size_of(dhead.dtype);
    std::vector<float> d(static_cast<std::size_t>(per_prediction));
    for (std::int64_t row = first; row < last; ++row) {
      Sums sum;
      for (std::int64_t pixel = row * columns; pixel < (row + 1) * columns; ++pixel) {
        if (dhead) {
          const auto offset = static_cast<std::size_t>(pixel * dhead.pitch) * size_of(dhead.dtype);
          std::memset(dhead.as<char>() + offset, 0, pixel_bytes);
        }
        for (std::int64_t a = 0; a < anchor_count(); ++a) {
          const std::int64_t at = pixel * head.pitch + a * per_prediction, d_at = pixel * dhead.pitch + a * per_prediction;
          const std::int32_t newest = work.newest[static_cast<std::size_t>(pixel * anchor_count() + a)];
          float target = 0;
          if (newest >= 0) {
            std::fill(d.begin(), d.end(), 0.0f);
            for (std::int32_t i = newest; i >= 0; i = work.earlier[static_cast<std::size_t>(i)]) {
              const float ciou = entry(work.entries[static_cast<std::size_t>(i)], at, sum, d.data());
              if (i == newest) target = rounded_to(head.dtype, std::max(0.0f, ciou));
            }
          }
          const auto term = math::bce_with_logits(load(head, at + 4), target, gains.obj_pw, gains.fl_gamma);
          sum.obj += static_cast<double>(term.value);
          if (!dhead) continue;
          if (newest >= 0) {
            for (std::int64_t k = 0; k < per_prediction; ++k) store(dhead, d_at + k, d[static_cast<std::size_t>(k)]);
          }
          store(dhead, d_at + 4, d_obj * term.slope);
        }
      }
      work.row_sums[static_cast<std::size_t>(row)] = sum;
    }
  }
};

void link_entries(Workspace& work, const Shape& grid, std::int64_t anchors) {
  work.newest.assign(static_cast<std::size_t>(grid.pixels() * anchors), -1);
  work.earlier.resize(work.entries.size());
  for (std::size_t i = 0; i < work.entries.size(); ++i) {
    const Assigned& e = work.entries[i];
    const std::int64_t prediction = ((e.image * grid.h + e.row) * grid.w + e.column) * anchors + e.anchor;
    std::int32_t& newest = work.newest[static_cast<std::size_t>(prediction)];
    work.earlier[i] = newest;
    newest = static_cast<std::int32_t>(i);
  }
}

// docs/spec/loss.md section 4: all balances are relative to the level of stride 16.
std::size_t level_of_stride_16(const DetectLoss& a) {
  const auto middle = std::find_if(a.levels.begin(), a.levels.end(), [](const DetectLevel& l) { return l.stride == 16; });
  FROST_CHECK(middle != a.levels.end(), "detect_loss: autobalance needs a level of stride 16");
  return static_cast<std::size_t>(middle - a.levels.begin());
}

}  // namespace

void assign_targets(const float* targets, std::int64_t count, std::int64_t rows, std::int64_t columns,
                    const std::vector<float>& anchors, float anchor_t, std::vector<Assigned>& out) {
  out.clear();
  const math::Grid grid{static_cast<int>(columns), static_cast<int>(rows)};
  const auto anchor_count = static_cast<std::int32_t>(anchors.size() / 2);
  for (int group = 0; group < math::kAssignGroups; ++group) {
    for (std::int32_t a = 0; a < anchor_count; ++a) {
      const auto size = static_cast<std::size_t>(2 * a);
      for (std::int64_t t = 0; t < count; ++t) {
        const float* row = targets + 6 * t;
        const math::TargetRow target{row[0], row[1], row[2], row[3], row[4], row[5]};
        Assigned entry;
        if (target.image >= 0 && math::assign(target, group, a, anchors[size], anchors[size + 1], anchor_t, grid, entry))
          out.push_back(entry);
      }
    }
  }
}

void CpuBackend::detect_loss(const DetectLoss& a) {
  check_detect_loss(a);
  FROST_CHECK(a.balance && a.result, "detect_loss: no balances, or nowhere to write the result");
  FROST_CHECK(a.targets || a.target_capacity == 0, "detect_loss: no targets, ", a.target_capacity, " rows expected");
  check_detect_targets(a.targets, a.target_capacity, a.levels[0].head.shape.n, a.classes);
  const std::size_t middle = a.autobalance ? level_of_stride_16(a) : 0;
  const float grad_scale = a.grad_scale ? *a.grad_scale : 1.0f;
  // The buffers belong to the calling thread; the workers reach them through this reference.
  static thread_local Workspace buffers;
  Workspace& work = buffers;

  const auto batch = static_cast<double>(a.levels[0].head.shape.n);
  Sums total;  // means over entries or cells, added over the levels
  for (std::size_t i = 0; i < a.levels.size(); ++i) {
    const DetectLevel& level = a.levels[i];
    const Shape& grid = level.head.shape;
    const auto anchors = static_cast<std::int64_t>(level.anchors.size() / 2);
    assign_targets(a.targets, a.target_capacity, grid.h, grid.w, level.anchors, a.gains.anchor_t, work.entries);
    link_entries(work, grid, anchors);
    work.row_sums.assign(static_cast<std::size_t>(grid.n * grid.h), Sums{});

    const auto cells = static_cast<double>(grid.pixels() * anchors);
    const double entries = std::max(1.0, static_cast<double>(work.entries.size()));
    const double class_terms = entries * static_cast<double>(a.classes), scale = batch * grad_scale;
    const LevelPass pass{.gains = a.gains,
                         .head = level.head,
                         .dhead = a.dheads.empty() ? View{} : a.dheads[i],
                         .anchors = level.anchors,
                         .classes = a.classes,
                         .d_box = static_cast<float>(scale * a.gains.box / entries),
                         .d_obj = static_cast<float>(scale * a.gains.obj * a.balance[i] / cells),
                         .d_cls = static_cast<float>(scale * a.gains.cls / class_terms),
                         .work = work};
    const std::int64_t grain = 1 + 1024 / (grid.w * anchors);  // a thread is worth about 1000 predictions
    parallel_ranges(grid.n * grid.h, grain, [&](std::int64_t first, std::int64_t last) { pass.rows(first, last); });

    Sums sum;
    for (const Sums& row : work.row_sums) sum += row;
    total += {.box = sum.box / entries, .obj = a.balance[i] * sum.obj / cells, .cls = sum.cls / class_terms};
    if (a.autobalance) a.balance[i] = static_cast<float>(a.balance[i] * 0.9999 + 0.0001 * cells / sum.obj);
  }
  if (a.autobalance) {
    const float base = a.balance[middle];
    for (std::size_t i = 0; i < a.levels.size(); ++i) a.balance[i] /= base;
  }

  const double box = total.box * a.gains.box, obj = total.obj * a.gains.obj, cls = total.cls * a.gains.cls;
  a.result[0] = static_cast<float>((box + obj + cls) * batch);
  a.result[1] = static_cast<float>(box);
  a.result[2] = static_cast<float>(obj);
  a.result[3] = static_cast<float>(cls);
}

}  // namespace frost::cpu
