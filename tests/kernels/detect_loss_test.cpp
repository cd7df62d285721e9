#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/detect_loss.h"
#include "kernels/cuda/kernels/detect_loss.cuh"
#include "kernels/math/half.h"
#include "tests/golden/golden.h"
#include "tests/kernels/device.h"
#include "tests/kernels/host_launch.h"

using namespace frost;

namespace {

constexpr std::size_t kGuard = 64;  // values after every gradient that nobody may touch
constexpr float kGuardValue = -1234.5f;

std::uint16_t narrow(DType type, float v) {
  return type == DType::f16 ? math::from_float<math::f16>(v).bits : math::from_float<math::bf16>(v).bits;
}
float widen(DType type, std::uint16_t v) {
  return type == DType::f16 ? math::to_float(math::f16{v}) : math::to_float(math::bf16{v});
}
float rounded(DType type, float v) { return widen(type, narrow(type, v)); }

// One call of detect_loss with its memory: maps go in as (batch, anchors, rows, columns, attributes), as PyTorch has them.
struct LossCase {
  struct Level {
    std::int64_t rows = 0, columns = 0;
    std::vector<float> anchors;
    float stride = 8;
    std::vector<float> map;          // PyTorch's order
    std::vector<float> head, dhead;  // NHWC; dhead with a guard zone
    std::vector<std::uint16_t> head16, dhead16;
  };
  std::int64_t batch = 2, classes = 3;
  std::vector<Level> levels;
  std::vector<float> targets;
  DetectLossGains gains;
  std::vector<float> balance{4.0f, 1.0f, 0.4f};
  bool autobalance = false, want_gradient = true, head16 = false, dhead16 = false;
  DType half = DType::bf16;  // the type of what is 16 bits wide
  float grad_scale = 1;
  std::int64_t gap = 0;                  // unused channels between pixels of head and dhead
  bool cuda = false, backwards = false;  // the CUDA kernels, emulated on the host; threads in the opposite order
  DetectLossResult result;

  std::int64_t attributes() const { return 5 + classes; }
  // Index in NHWC of element (b, a, y, x, k) of level l.
  std::size_t at(const Level& l, std::int64_t b, std::int64_t a, std::int64_t y, std::int64_t x, std::int64_t k) const {
    const auto channels = static_cast<std::int64_t>(l.anchors.size() / 2) * attributes();
    return static_cast<std::size_t>(((b * l.rows + y) * l.columns + x) * (channels + gap) + a * attributes() + k);
  }
  template <class Visit>
  void visit(const Level& l, Visit&& each) const {  // (index in PyTorch's order, in NHWC)
    std::size_t i = 0;
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t a = 0; a < static_cast<std::int64_t>(l.anchors.size() / 2); ++a)
        for (std::int64_t y = 0; y < l.rows; ++y)
          for (std::int64_t x = 0; x < l.columns; ++x)
            for (std::int64_t k = 0; k < attributes(); ++k) each(i++, at(l, b, a, y, x, k));
  }

  void run() {
    static const auto backend = frost::testing::make_test_backend();
    DetectLoss call;
    for (Level& l : levels) {
      const auto channels = static_cast<std::int64_t>(l.anchors.size() / 2) * attributes();
      const Shape shape{batch, l.rows, l.columns, channels};
      const auto size = static_cast<std::size_t>(shape.pixels() * (channels + gap));
      l.head.assign(size, std::numeric_limits<float>::quiet_NaN());  // reading between the pixels would show
      visit(l, [&](std::size_t from, std::size_t to) { l.head[to] = l.map[from]; });
      l.head16.resize(size);
      for (std::size_t i = 0; i < size; ++i) l.head16[i] = narrow(half, l.head[i]);
      l.dhead.assign(size + kGuard, kGuardValue);
      l.dhead16.assign(size + kGuard, narrow(half, kGuardValue));
      const void* head = head16 ? static_cast<const void*>(l.head16.data()) : l.head.data();
      void* dhead = dhead16 ? static_cast<void*>(l.dhead16.data()) : l.dhead.data();
      const DType type = head16 ? half : DType::f32, dtype = dhead16 ? half : DType::f32;
      call.levels.push_back({.head = {head, shape, type, channels + gap}, .anchors = l.anchors, .stride = l.stride});
      if (want_gradient) call.dheads.push_back({dhead, shape, dtype, channels + gap});
    }
    call.classes = classes;
    call.targets = targets.data();
    call.target_capacity = static_cast<std::int64_t>(targets.size() / 6);
    call.gains = gains;
    call.balance = balance.data();
    call.autobalance = autobalance;
    call.grad_scale = grad_scale == 1 ? nullptr : &grad_scale;
    std::array<float, kDetectLossResults> numbers{};
    call.result = numbers.data();
    if (cuda) {
      std::size_t bytes = 0;
      cuda::plan_loss(call, bytes);
      std::vector<std::uint64_t> workspace(bytes / sizeof(std::uint64_t) + kGuard, ~std::uint64_t{0});  // NaN
      call.workspace = workspace.data();
      cuda::detect_loss(cuda::HostLaunch(backwards), call);
      CHECK(std::count(workspace.end() - kGuard, workspace.end(), ~std::uint64_t{0}) == kGuard);
    } else {
      CHECK(backend->detect_loss_workspace(call) == 0);
      backend->detect_loss(call);
    }
    result = {.loss = numbers[0], .items = {numbers[1], numbers[2], numbers[3]}};
  }

  // The gradient in PyTorch's order; checks on the way that nothing outside was written.
  std::vector<float> gradient(std::size_t level) const {
    const Level& l = levels[level];
    std::vector<float> all(l.dhead);
    if (dhead16)
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = widen(half, l.dhead16[i]);
    const float guard = dhead16 ? rounded(half, kGuardValue) : kGuardValue;
    std::vector<float> out(l.map.size());
    visit(l, [&](std::size_t to, std::size_t from) {
      out[to] = all[from];
      all[from] = guard;
    });
    CHECK(all == std::vector<float>(all.size(), guard));
    return out;
  }
  std::vector<cpu::Assigned> assigned(std::size_t level) const {
    std::vector<cpu::Assigned> list;
    const Level& l = levels[level];
    cpu::assign_targets(targets.data(), static_cast<std::int64_t>(targets.size() / 6), l.rows, l.columns, l.anchors,
                        gains.anchor_t, list);
    return list;
  }
};

LossCase golden_case(const golden::File& file, const golden::File& maps) {
  LossCase c;
  const auto hyp = file.fact_json("hyp");
  c.classes = std::stoll(file.fact("classes"));
  c.autobalance = file.fact("autobalance") == "true";
  c.gains = {.box = hyp["box"],
             .obj = hyp["obj"],
             .cls = hyp["cls"],
             .cls_pw = hyp["cls_pw"],
             .obj_pw = hyp["obj_pw"],
             .anchor_t = hyp["anchor_t"],
             .fl_gamma = hyp["fl_gamma"],
             .label_smoothing = hyp["label_smoothing"]};
  c.targets = file.at("targets").f32();
  const auto anchors = file.at("anchors_in_cells").f32();
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& map = maps.at("head" + std::to_string(i) + ".value");
    c.levels.push_back({.rows = map.shape[2],
                        .columns = map.shape[3],
                        .anchors = {anchors.begin() + static_cast<std::ptrdiff_t>(6 * i),
                                    anchors.begin() + static_cast<std::ptrdiff_t>(6 * i + 6)},
                        .stride = static_cast<float>(8 << i),
                        .map = map.f32(),
                        .head = {},
                        .dhead = {},
                        .head16 = {},
                        .dhead16 = {}});
  }
  return c;
}

// docs/spec/loss.md section 8.2
LossCase spec_case() {
  LossCase c;
  c.classes = 2;
  c.gains = {.box = 0.05f, .obj = 1.0f, .cls = 0.5f};
  c.targets = {0,    0,    .50f, .50f, .30f, .30f, 0,    1,   .52f, .49f, .35f, .25f, 1,    1,    .10f,
               .90f, .15f, .20f, 1,    0,    1.0f, .75f, .5f, .5f,  1,    0,    .75f, .75f, .90f, .80f};
  const std::vector<float> anchors[] = {{10, 13, 16, 30, 33, 23}, {30, 61, 62, 45, 59, 119}, {116, 90, 156, 198, 373, 326}};
  std::size_t k = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    LossCase::Level l;
    l.rows = l.columns = 8 >> i;
    l.stride = static_cast<float>(8 << i);
    for (const float pixels : anchors[i]) l.anchors.push_back(pixels / l.stride);
    for (std::int64_t n = 2 * 3 * l.rows * l.columns * 7; n > 0; --n)
      l.map.push_back(static_cast<float>(std::sin(0.37 * static_cast<double>(k++))));
    c.levels.push_back(l);
  }
  return c;
}

bool near(double a, double b, double relative) { return std::abs(a - b) <= relative * std::max(std::abs(b), 1e-30); }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

// Tolerances: PyTorch's own f32 run is 2e-7 (loss) and 1.3e-5 (gradients, relative to the largest) away from these f64
// numbers.
TEST_CASE("detect_loss: loss, assignment and gradients of YOLOv5") {
  const auto base = golden::load("loss_base");
  for (const std::string name :
       {"base", "focal", "label_smoothing", "no_targets", "pos_weight", "single_class", "autobalance"}) {
    INFO(name);
    const auto file = golden::load("loss_" + name);
    for (const bool cuda : {false, true}) {
      LossCase c = golden_case(file, name == "single_class" ? file : base);
      c.cuda = cuda;
      for (const auto& call : file.fact_json("history_loss_items_balance")) {
        c.run();
        CHECK(near(c.result.loss, call[0], 1e-5));
        for (std::size_t k = 0; k < 3; ++k) CHECK(near(c.result.items[k], call[1][k], 1e-5));
        for (std::size_t k = 0; k < 3; ++k)
          CHECK(near(c.balance[k], call[2][k], 4e-7));  // f32, rounded in each of three calls
      }
      CHECK(near(c.result.loss, std::stod(file.fact("loss")), 1e-5));
      for (std::size_t i = 0; i < 3; ++i) {
        INFO("level ", i);
        const std::string level = std::to_string(i);
        const auto list = c.assigned(i);
        const auto values = [&](const std::string& what) {
          return file.at("targets" + level + what).values<std::int32_t>();
        };
        const auto image = values(".image"), anchor = values(".anchor"), row = values(".row"), column = values(".column");
        const auto label = values(".class");
        const auto box = file.at("targets" + level + ".box").f32();
        REQUIRE(list.size() == image.size());
        for (std::size_t k = 0; k < list.size(); ++k) {
          CHECK(list[k].image == image[k]);
          CHECK(list[k].anchor == anchor[k]);
          CHECK(list[k].row == row[k]);
          CHECK(list[k].column == column[k]);
          CHECK(list[k].label == label[k]);
          const float mine[] = {list[k].x, list[k].y, list[k].w, list[k].h};
          for (std::size_t j = 0; j < 4; ++j) CHECK(std::abs(mine[j] - box[4 * k + j]) < 2e-6);  // a rounding of 16 cells
        }

        const auto expected = file.at("head" + level + ".grad").f32(), gradient = c.gradient(i);
        CHECK(golden::relative_error(gradient, expected) < 1e-4);
        // Without positive weight and focal loss, d = scale (sigmoid - target): the gradient shows the objectness target.
        if (name != "base" && name != "single_class" && name != "no_targets") continue;
        const auto objectness = file.at("head" + level + ".objectness_target").f32();
        const double scale = 2.0 * c.gains.obj * c.balance[i] / static_cast<double>(objectness.size());
        std::vector<double> seen;
        for (std::size_t k = 0; k < objectness.size(); ++k) {
          const auto at = k * static_cast<std::size_t>(c.attributes()) + 4;
          seen.push_back(logistic(c.levels[i].map[at]) - gradient[at] / scale);
        }
        for (std::size_t k = 0; k < seen.size(); ++k) CHECK(std::abs(seen[k] - objectness[k]) < 1e-5);
      }
    }
  }
}

TEST_CASE("detect_loss: the whole-loss fixture of docs/spec/loss.md section 8.2") {
  LossCase base = spec_case();
  base.run();
  const std::size_t counts[] = {55, 34, 4};
  const double sums[] = {4.3278756, 1.3828323, 0.9010704};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(base.assigned(i).size() == counts[i]);
    double sum = 0;
    for (const float d : base.gradient(i)) sum += std::abs(static_cast<double>(d));
    CHECK(near(sum, sums[i], 2e-6));
  }
  CHECK(near(base.gradient(0)[4], 0.0152135, 1e-5));

  const auto is = [](const cpu::Assigned& e, std::array<int, 5> cell, std::array<float, 4> box) {
    return std::array{e.image, e.anchor, e.row, e.column, e.label} == cell && std::abs(e.x - box[0]) < 1e-5f &&
           std::abs(e.y - box[1]) < 1e-5f && std::abs(e.w - box[2]) < 1e-5f && std::abs(e.h - box[3]) < 1e-5f;
  };
  const auto top = base.assigned(2), fine = base.assigned(0);
  CHECK(is(top[0], {1, 0, 1, 1, 0}, {1, .5f, 1, 1}));
  CHECK(is(top[1], {1, 0, 1, 1, 0}, {.5f, .5f, 1.8f, 1.6f}));
  CHECK(is(top[2], {1, 1, 1, 1, 0}, {.5f, .5f, 1.8f, 1.6f}));
  CHECK(is(top[3], {1, 0, 1, 1, 0}, {1, .5f, 1, 1}));
  CHECK(is(fine[0], {0, 0, 4, 4, 0}, {0, 0, 2.4f, 2.4f}));
  CHECK(is(fine[1], {0, 0, 3, 4, 1}, {.16f, .92f, 2.8f, 2.0f}));
  CHECK(is(fine[2], {1, 0, 7, 0, 1}, {.8f, .2f, 1.2f, 1.6f}));
  CHECK(is(fine[3], {1, 0, 6, 7, 0}, {1.0f, 0, 4, 4}));
  CHECK(is(fine[14], {0, 0, 4, 3, 0}, {1, 0, 2.4f, 2.4f}));

  // Eight digits are printed there, computed in f32.
  const auto check = [](const LossCase& c, double loss, double box, double obj, double cls) {
    CHECK(near(c.result.loss, loss, 1e-6));
    CHECK(near(c.result.items[0], box, 2e-6));
    CHECK(near(c.result.items[1], obj, 1e-6));
    CHECK(near(c.result.items[2], cls, 1e-6));
  };
  check(base, 10.616459, 0.1250992, 4.0615644, 1.1215658);
  LossCase none = spec_case();
  none.targets.clear();
  none.run();
  check(none, 8.147522, 0, 4.0737610, 0);
  LossCase smooth = spec_case();
  smooth.gains.label_smoothing = 0.1f;
  smooth.run();
  check(smooth, 10.618352, 0.1250992, 4.0615644, 1.1225123);
  LossCase focal = spec_case();
  focal.gains.fl_gamma = 1.5f;
  focal.run();
  check(focal, 3.495517, 0.1250992, 1.3474895, 0.2751698);
  LossCase weighted = spec_case();
  weighted.gains.cls_pw = 0.5f;
  weighted.gains.obj_pw = 0.67198f;
  weighted.run();
  check(weighted, 10.075970, 0.1250992, 4.0391164, 0.8737692);
  LossCase balanced = spec_case();
  balanced.autobalance = true;
  balanced.run();
  check(balanced, 10.616459, 0.1250992, 4.0615644, 1.1215658);
  CHECK(near(balanced.balance[0], 3.9996022, 1e-7));
  CHECK(near(balanced.balance[2], 0.4000778, 2e-7));
  balanced.run();
  check(balanced, 10.615981, 0.1250992, 4.0613256, 1.1215658);
  CHECK(near(balanced.balance[0], 3.9992045, 1e-7));
  CHECK(balanced.balance[1] == 1.0f);
  CHECK(near(balanced.balance[2], 0.4001555, 2e-7));
}

namespace {

// The loss in double from its definition, with what counts as a constant (objectness targets, alpha) held at the values of
// `fixed` (in: null on the first evaluation, which fills it).
struct Constants {
  std::vector<double> alpha, objectness;
};
double reference_loss(const LossCase& c, const std::vector<std::vector<double>>& maps, Constants& constants) {
  const bool first = constants.objectness.empty();
  const double pi2 = M_PI * M_PI;
  std::size_t alpha_at = 0, objectness_at = 0;
  double lbox = 0, lobj = 0, lcls = 0;
  const auto bce = [&](double x, double t, double pos_weight) {
    const double s = logistic(x), loss = -(pos_weight * t * std::log(s) + (1 - t) * std::log(1 - s));
    if (c.gains.fl_gamma == 0) return loss;
    const double p = t * s + (1 - t) * (1 - s);
    return loss * (0.25 * t + 0.75 * (1 - t)) * std::pow(1 - p, c.gains.fl_gamma);
  };
  for (std::size_t i = 0; i < c.levels.size(); ++i) {
    const auto& l = c.levels[i];
    const auto anchors = static_cast<std::int64_t>(l.anchors.size() / 2);
    const auto list = c.assigned(i);
    std::vector<double> objectness(static_cast<std::size_t>(c.batch * anchors * l.rows * l.columns), 0);
    double box = 0, obj = 0, cls = 0;
    for (const auto& e : list) {
      const auto cell = static_cast<std::size_t>(((e.image * anchors + e.anchor) * l.rows + e.row) * l.columns + e.column);
      const double* q = maps[i].data() + cell * static_cast<std::size_t>(c.attributes());
      const double px = 2 * logistic(q[0]) - 0.5, py = 2 * logistic(q[1]) - 0.5;
      const double pw = std::pow(2 * logistic(q[2]), 2) * l.anchors[static_cast<std::size_t>(2 * e.anchor)];
      const double ph = std::pow(2 * logistic(q[3]), 2) * l.anchors[static_cast<std::size_t>(2 * e.anchor + 1)];
      const double ow = std::min(px + pw / 2, e.x + e.w / 2.0) - std::max(px - pw / 2, e.x - e.w / 2.0);
      const double oh = std::min(py + ph / 2, e.y + e.h / 2.0) - std::max(py - ph / 2, e.y - e.h / 2.0);
      const double cw = std::max(px + pw / 2, e.x + e.w / 2.0) - std::min(px - pw / 2, e.x - e.w / 2.0);
      const double ch = std::max(py + ph / 2, e.y + e.h / 2.0) - std::min(py - ph / 2, e.y - e.h / 2.0);
      const double inter = std::max(0.0, ow) * std::max(0.0, oh), area = static_cast<double>(e.w) * e.h;
      const double iou = inter / (pw * ph + area - inter + 1e-7);
      const double rho2 = (px - e.x) * (px - e.x) + (py - e.y) * (py - e.y);
      const double v = 4 / pi2 * std::pow(std::atan(static_cast<double>(e.w) / e.h) - std::atan(pw / ph), 2);
      if (first) constants.alpha.push_back(v / (v - iou + 1 + 1e-7));
      const double ciou = iou - rho2 / (cw * cw + ch * ch + 1e-7) - v * constants.alpha[alpha_at++];
      box += 1 - ciou;
      objectness[cell] = std::max(0.0, ciou);
      for (std::int64_t k = 0; k < c.classes; ++k) {
        const double smooth = 0.5 * static_cast<double>(c.gains.label_smoothing);
        cls += bce(q[5 + k], k == e.label ? 1 - smooth : smooth, c.gains.cls_pw);
      }
    }
    for (std::size_t cell = 0; cell < objectness.size(); ++cell) {
      if (first) constants.objectness.push_back(objectness[cell]);
      obj += bce(maps[i][cell * static_cast<std::size_t>(c.attributes()) + 4], constants.objectness[objectness_at++],
                 c.gains.obj_pw);
    }
    if (!list.empty()) lbox += box / static_cast<double>(list.size());
    if (!list.empty() && c.classes > 1) lcls += cls / static_cast<double>(list.size()) / static_cast<double>(c.classes);
    lobj += c.balance[i] * obj / static_cast<double>(objectness.size());
  }
  return static_cast<double>(c.batch) * (c.gains.box * lbox + c.gains.obj * lobj + c.gains.cls * lcls);
}

LossCase tiny_case(std::int64_t classes) {
  LossCase c;
  c.classes = classes;
  c.gains = {.box = 0.7f,
             .obj = 0.9f,
             .cls = 1.1f,
             .cls_pw = 1.4f,
             .obj_pw = 0.6f,
             .anchor_t = 4,
             .fl_gamma = 1.5f,
             .label_smoothing = 0.1f};
  c.balance = {4, 1};
  const auto label = static_cast<float>(classes - 1);
  c.targets = {0, 0,     0.41f, 0.37f, 0.50f, 0.60f, 1, label, 0.63f, 0.72f, 0.35f, 0.30f,
               0, label, 0.44f, 0.39f, 0.55f, 0.50f, 1, 0,     1.0f,  0.5f,  0.40f, 0.45f};  // two share cells, one on lines
  const golden::Fill fill("tiny.loss");
  std::uint64_t k = 0;
  for (std::int64_t i = 0; i < 2; ++i) {
    LossCase::Level l;
    l.rows = i == 0 ? 5 : 2;
    l.columns = i == 0 ? 3 : 1;
    l.stride = i == 0 ? 8 : 16;
    l.anchors = {1.0f, 1.5f, 2.0f, 1.2f};
    for (std::int64_t n = 2 * 2 * l.rows * l.columns * c.attributes(); n > 0; --n)
      l.map.push_back(static_cast<float>(3 * fill.u(k++) - 1.5));
    c.levels.push_back(l);
  }
  return c;
}

}  // namespace

TEST_CASE("detect_loss: gradients are the derivatives of the loss") {
  for (const auto& [classes, cuda] : {std::pair{1, false}, {3, false}, {1, true}, {3, true}}) {
    LossCase c = tiny_case(classes);
    c.cuda = cuda;
    c.grad_scale = 2.5f;
    c.run();
    std::vector<std::vector<double>> maps;
    for (const auto& l : c.levels) maps.emplace_back(l.map.begin(), l.map.end());
    Constants constants;
    CHECK(near(c.result.loss, reference_loss(c, maps, constants), 1e-6));
    for (std::size_t i = 0; i < c.levels.size(); ++i) {
      std::vector<double> numeric;
      for (double& value : maps[i]) {
        const double at = value, h = 1e-5;
        value = at + h;
        const double high = reference_loss(c, maps, constants);
        value = at - h;
        numeric.push_back(2.5 * (high - reference_loss(c, maps, constants)) / (2 * h));
        value = at;
      }
      CHECK(golden::relative_error(c.gradient(i), numeric) < 5e-6);  // f32 against double
    }
  }
}

TEST_CASE("detect_loss: the same bits for any number of threads, without a gradient, and for padded pixels and targets") {
  LossCase one = spec_case();
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  one.run();
  const auto check_same = [&](LossCase other) {
    other.run();
    CHECK(other.result.loss == one.result.loss);
    CHECK(other.result.items == one.result.items);
    for (std::size_t i = 0; other.want_gradient && i < 3; ++i) CHECK(other.gradient(i) == one.gradient(i));
  };
  for (const int n : {2, 3, 7}) {
    omp_set_num_threads(n);
    check_same(spec_case());
  }
  omp_set_num_threads(threads);
  LossCase forward = spec_case();
  forward.want_gradient = false;
  check_same(forward);
  LossCase padded = spec_case();
  padded.gap = 3;
  check_same(padded);
  LossCase roomy = spec_case();  // rows without a target, wherever they stand and whatever else they hold
  for (const std::ptrdiff_t row : {5, 3, 0})
    roomy.targets.insert(roomy.targets.begin() + 6 * row, {-1, 99, NAN, .5f, -2, .5f});
  check_same(roomy);
}

// CUDA adds in another order, and in f32 within a block.
TEST_CASE("detect_loss: the CUDA kernels equal the CPU's, whatever order threads run in") {
  const auto both = [](LossCase c) {
    LossCase cuda = c, backwards = c;
    cuda.cuda = backwards.cuda = backwards.backwards = true;
    c.run();
    cuda.run();
    backwards.run();
    CHECK(near(cuda.result.loss, c.result.loss, 2e-6));
    for (std::size_t k = 0; k < 3; ++k)
      CHECK(std::abs(cuda.result.items[k] - c.result.items[k]) <= 2e-6 * c.result.items[k]);
    CHECK(backwards.result.loss == cuda.result.loss);
    CHECK(backwards.result.items == cuda.result.items);
    CHECK(golden::relative_error(cuda.balance, c.balance) < 3e-7);
    for (std::size_t i = 0; c.want_gradient && i < c.levels.size(); ++i) {
      CHECK(golden::relative_error(cuda.gradient(i), c.gradient(i)) < 2e-6);
      CHECK(backwards.gradient(i) == cuda.gradient(i));
    }
  };
  LossCase crowded = spec_case();  // many targets on the same predictions, padding between them
  const golden::Fill fill("crowd");
  for (std::uint64_t t = 0; t < 60; ++t) {
    const auto u = [&](std::uint64_t k) { return static_cast<float>(fill.u(6 * t + k)); };
    const std::vector<float> row{t % 4 == 0 ? -1.0f : static_cast<float>(t % 2),
                                 t % 3 == 0 ? 1.0f : 0.0f,
                                 .4f + .2f * u(2),
                                 .4f + .2f * u(3),
                                 .1f + .5f * u(4),
                                 .1f + .5f * u(5)};
    crowded.targets.insert(crowded.targets.end(), row.begin(), row.end());
  }
  both(crowded);
  LossCase other = crowded;
  other.gap = 3, other.grad_scale = 1024, other.autobalance = true, other.gains.label_smoothing = .1f;
  both(other);
  other.gap = 8;  // whole vectors between gaps
  both(other);
  other.gains.fl_gamma = 1.5f, other.want_gradient = false;
  both(other);
  LossCase none = spec_case();
  none.targets.clear();
  both(none);
  LossCase one = tiny_case(1);  // six attributes: a vector of 8 values may hold two objectness gradients
  both(one);
  for (one.gap = 1; one.gap <= 8; ++one.gap) both(one);  // vectors with a tail among them
  LossCase bad = spec_case();  // nothing is thrown on a device, and nothing written where it should not be
  bad.cuda = true;
  bad.targets[6] = 2;
  bad.run();
  CHECK(std::isnan(bad.result.loss));
  for (std::size_t i = 0; i < 3; ++i) bad.gradient(i);
}

TEST_CASE("detect_loss: 16-bit maps") {
  for (const auto& [type, cuda] :
       {std::pair{DType::bf16, false}, {DType::f16, false}, {DType::bf16, true}, {DType::f16, true}}) {
    const double step = type == DType::bf16 ? 1.0 / 256 : 1.0 / 2048;  // one rounding
    LossCase f32 = spec_case();
    f32.cuda = cuda;
    for (auto& l : f32.levels)
      for (float& v : l.map) v = rounded(type, v);
    f32.run();
    LossCase narrow_head = spec_case();
    narrow_head.cuda = cuda;
    narrow_head.half = type;
    narrow_head.head16 = true;
    narrow_head.run();
    // Only the objectness target differs: it is kept in the map's type.
    CHECK(near(narrow_head.result.items[0], f32.result.items[0], 1e-7));
    CHECK(near(narrow_head.result.items[2], f32.result.items[2], 1e-7));
    CHECK(near(narrow_head.result.loss, f32.result.loss, step / 10));
    LossCase both = narrow_head;
    both.dhead16 = true;
    both.run();
    CHECK(both.result.loss == narrow_head.result.loss);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto wide = narrow_head.gradient(i), stored = both.gradient(i);
      CHECK(golden::relative_error(wide, f32.gradient(i)) < step);
      for (std::size_t k = 0; k < wide.size(); ++k)
        CHECK(stored[k] == rounded(type, wide[k]));  // added in f32, rounded once
    }
  }
}

TEST_CASE("detect_loss: odd targets give numbers, impossible ones a message") {
  LossCase c = spec_case();
  c.targets = {0, 0, .5f, .5f, 0, .3f, 0, 1, .5f, .5f, .3f, 0, 1, 0, .2f, .2f, 0, 0};  // no width, no height, neither
  c.run();
  for (std::size_t i = 0; i < 3; ++i) CHECK(c.assigned(i).empty());
  CHECK(c.result.items[0] == 0);
  c.targets = {0, 0, 1.0f, 1.0f, .3f, .3f, 1, 1, 0, 0, .3f, .3f, 0, 1, 1.3f, -0.2f, .3f, .3f, 0, 1, 1e5f, -1e5f, .3f, .3f};
  for (auto& l : c.levels)
    for (std::size_t k = 0; k < l.map.size(); ++k) l.map[k] *= k % 3 == 0 ? 300.0f : 1.0f;  // saturated sigmoids
  c.gains.fl_gamma = 0.5f;
  c.run();
  CHECK(std::isfinite(c.result.loss));
  for (std::size_t i = 0; i < 3; ++i) {
    for (const auto& e : c.assigned(i)) {
      CHECK((e.column >= 0 && e.column < c.levels[i].columns && e.row >= 0 && e.row < c.levels[i].rows));
    }
    for (const float d : c.gradient(i)) CHECK(std::isfinite(d));
  }

  const auto message = [](auto&& change) {
    LossCase bad = spec_case();
    change(bad);
    try {
      bad.run();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  struct Impossible {
    std::size_t at;
    float value;
    const char* said;
  };
  for (const auto& [at, value, said] : {Impossible{6, 2, "detect_loss: target 1 has image index 2, the batch has 2 images"},
                                        Impossible{13, 7, "detect_loss: target 2 has class 7, the model has 2 classes"},
                                        Impossible{4, -.5f, "detect_loss: target 0 has size -0.5 x 0.3"},
                                        Impossible{2, NAN, "detect_loss: target 0 holds nan"}}) {
    CAPTURE(said);
    if (frost::testing::on_cpu()) {
      CHECK(message([&](LossCase& b) { b.targets[at] = value; }) == said);
      continue;
    }
    LossCase bad = spec_case();
    bad.targets[at] = value;
    bad.run();
    CHECK(std::isnan(bad.result.loss));
  }
  CHECK(message([](LossCase& b) { b.balance = std::vector<float>(); }) ==
        "detect_loss: no balances, or nowhere to write the result");
  CHECK(message([](LossCase& b) { b.dhead16 = true; }) ==
        "no error");  // f32 logits, 16-bit gradients: what bf16 training asks for
  CHECK(message([](LossCase& b) { b.levels[1].anchors.pop_back(); }).find("detect_loss: head 1 is ") == 0);
  CHECK(message([](LossCase& b) {
          b.autobalance = true;
          b.levels[1].stride = 12;
        }) == "detect_loss: autobalance needs a level of stride 16");
}
