#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kernels/math/half.h"
#include "models/freeze.h"
#include "models/yolo/shapes_dataset.h"
#include "models/yolo/training/step.h"
#include "tests/device.h"
#include "tests/models/model_fixture.h"
#include "tests/recording_backend.h"

// A training step of a YOLOv5n in 16 bits against the same step in f32.
//
// The norm of all gradients says nothing about an untrained network: sixty batch norms amplify the last bits until they
// decide it. With weights and image rounded alike, the gradients in bf16 and in f32 are more than half of their length
// apart, at 64 pixels and at 320. So the step is judged twice by what rounding alone bounds:
//  1. each convolution of the step against the f32 convolution of the very same operands: one rounding;
//  2. the gradients of whole steps whose norms do not amplify: running statistics.
using namespace frost;
using namespace frost::golden;

namespace {
constexpr std::int64_t kBatch = 4, kSide = 64, kClasses = 4;

/// A view's values in f32, packed.
std::vector<float> widened(const ConstView& v) {
  std::vector<float> values;
  for (std::int64_t p = 0; p < v.shape.pixels(); ++p)
    for (std::int64_t c = 0; c < v.shape.c; ++c) {
      const std::int64_t i = p * v.pitch + c;
      values.push_back(v.dtype == DType::f32 ? v.as<float>()[i] : math::to_float(v.as<math::bf16>()[i]));
    }
  return values;
}

std::vector<float> absolute(std::vector<float> values) {
  for (float& v : values) v = std::abs(v);
  return values;
}

/// Half a unit in the last place of a value of this type, at most, as a share of the value.
double rounding(DType type) { return type == DType::bf16 ? 0x1p-8 : type == DType::f16 ? 0x1p-11 : 0; }
/// A sum of n products in f32, in the worst order of all, is off by n of its roundings, as a share of the sum of the
/// products' absolute values. No convolution here adds up more than kBatch * kSide / 2 * kSide / 2 = 4096 products (the
/// first layer's weight gradient).
constexpr double kSum = kBatch * kSide * kSide / 4 * 0x1p-24;

std::vector<float> rounded(std::vector<float> values) {
  for (float& v : values) v = math::to_float(math::from_float<math::bf16>(v));
  return values;
}

/// Which mistake a device makes on purpose: a factor on the input gradient of one convolution, or no residual in one block.
struct Fault {
  int dgrad = -1;     // number of the call
  float factor = 1;   // of its result
  int residual = -1;  // number of the call with a residual
};

/// The device under test. On the CPU, where `again`, 16-bit convolutions are made again in f32 from the operands that they
/// were given.
class WatchedDevice final : public frost::testing::RecordingBackend {
 public:
  WatchedDevice(bool again, const Fault& fault)
      : RecordingBackend(frost::testing::make_device_backend()), again_(again && frost::testing::on_cpu()), fault_(fault) {}

  /// The largest error of a convolution's results by pass, each as a share of what rounding allows that value: above 1 is
  /// more than rounding can do.
  struct Errors {
    double forward = 0, dgrad = 0, wgrad = 0;
    int calls = 0;
  } errors;

  void conv_forward(const ConvForward& a) override {
    RecordingBackend::conv_forward(a);
    if (!again_ || a.x.dtype == DType::f32) return;
    const std::vector<float> x = widened(a.x), weight = filters(a.weight, a.geometry, a.x.shape.c, a.y.shape.c);
    std::vector<float> y(elements(a.y));
    ConvForward b = a;
    b.x = packed_view(x.data(), a.x.shape), b.weight = {weight.data(), 0}, b.y = packed_view(y.data(), a.y.shape);
    f32_->conv_forward(b);
    const std::vector<float> abs_x = absolute(x), abs_weight = absolute(weight);
    std::vector<float> abs_y(y.size());
    b.x = packed_view(abs_x.data(), a.x.shape), b.weight = {abs_weight.data(), 0};
    b.y = packed_view(abs_y.data(), a.y.shape);
    f32_->conv_forward(b);
    note(errors.forward, widened(a.y), y, abs_y, rounding(a.y.dtype));
  }
  void conv_backward_data(const ConvBackwardData& a) override {
    RecordingBackend::conv_backward_data(a);
    if (dgrads_++ == fault_.dgrad)
      for (std::int64_t p = 0; p < a.dx.shape.pixels(); ++p)
        for (std::int64_t c = 0; c < a.dx.shape.c; ++c) {
          auto& v = a.dx.as<math::bf16>()[p * a.dx.pitch + c];
          v = math::from_float<math::bf16>(fault_.factor * math::to_float(v));
        }
    if (!again_ || a.dy.dtype == DType::f32) return;
    const std::vector<float> dy = widened(a.dy), weight = filters(a.weight, a.geometry, a.dx.shape.c, a.dy.shape.c);
    std::vector<float> dx(elements(a.dx));
    ConvBackwardData b = a;
    b.dy = packed_view(dy.data(), a.dy.shape), b.weight = {weight.data(), 0}, b.dx = packed_view(dx.data(), a.dx.shape);
    f32_->conv_backward_data(b);
    const std::vector<float> abs_dy = absolute(dy), abs_weight = absolute(weight);
    std::vector<float> abs_dx(dx.size());
    b.dy = packed_view(abs_dy.data(), a.dy.shape), b.weight = {abs_weight.data(), 0};
    b.dx = packed_view(abs_dx.data(), a.dx.shape);
    f32_->conv_backward_data(b);
    note(errors.dgrad, widened(a.dx), dx, abs_dx, rounding(a.dx.dtype));
  }
  void conv_backward_weight(const ConvBackwardWeight& a) override {
    const std::size_t count =
        static_cast<std::size_t>(a.dy.shape.c * a.geometry.kernel_h * a.geometry.kernel_w * a.x.shape.c / a.geometry.groups);
    std::vector<float> before(count, 0);
    if (a.accumulate) before.assign(a.dweight, a.dweight + count);
    RecordingBackend::conv_backward_weight(a);
    if (!again_ || a.dy.dtype == DType::f32) return;
    const std::vector<float> x = widened(a.x), dy = widened(a.dy);
    ConvBackwardWeight b = a;
    b.x = packed_view(x.data(), a.x.shape), b.dy = packed_view(dy.data(), a.dy.shape);
    b.dweight = before.data(), b.dbias = nullptr;
    std::vector<float> abs_dw = absolute(before);
    f32_->conv_backward_weight(b);
    const std::vector<float> abs_x = absolute(x), abs_dy = absolute(dy);
    b.x = packed_view(abs_x.data(), a.x.shape), b.dy = packed_view(abs_dy.data(), a.dy.shape), b.dweight = abs_dw.data();
    f32_->conv_backward_weight(b);
    note(errors.wgrad, std::vector<float>(a.dweight, a.dweight + count), before, abs_dw, 0);
  }
  void norm_act_forward(const NormActForward& a) override {
    NormActForward b = a;
    if (a.residual && residuals_++ == fault_.residual) b.residual = {};
    RecordingBackend::norm_act_forward(b);
  }

 private:
  static std::size_t elements(const View& v) { return static_cast<std::size_t>(v.shape.elements()); }
  /// The filters as a device rounds them.
  static std::vector<float> filters(const Filters& f, const ConvGeometry& g, std::int64_t in, std::int64_t out) {
    return rounded({f.data, f.data + out * g.kernel_h * g.kernel_w * (in / g.groups)});
  }
  /// `sums`: of the products' absolute values. `last`: the rounding of the result to its type, 0 where it stays in f32. Both
  /// results are such sums, each with its own errors.
  void note(double& worst, const std::vector<float>& mine, const std::vector<float>& expected,
            const std::vector<float>& sums, double last) {
    for (std::size_t i = 0; i < mine.size(); ++i) {
      const double off = std::abs(static_cast<double>(mine[i]) - expected[i]);
      const double allowed = last * std::abs(expected[i]) + (2 + last) * kSum * sums[i];
      if (off == 0) continue;
      worst = off <= worst * allowed ? worst : std::isfinite(off) ? off / allowed : INFINITY;  // NaN counts
    }
    ++errors.calls;
  }

  bool again_;
  Fault fault_;
  int dgrads_ = 0, residuals_ = 0;
  std::unique_ptr<Backend> f32_ = make_cpu_backend();
};

struct Step {
  double loss = 0;
  std::map<std::string, std::vector<float>> gradients;
  WatchedDevice::Errors errors;
};

/// One step on drawn shapes. The master weights are bf16 values, so that f32 sees what bf16 sees. `frozen`: --freeze.
Step step(DType type, const std::vector<std::string>& frozen, const Fault& fault = {}) {
  auto backend = std::make_unique<WatchedDevice>(frozen.empty(), fault);
  WatchedDevice& watched = *backend;
  Device device(std::move(backend));
  DetectionModel model(device, load_model_spec("yolov5n", kClasses), 1);
  fill_model(model);
  for (Parameter* p : model.parameters())
    if (p->torch_shape.size() == 4) {
      p->value.assign(rounded(p->value.to_vector()));
      p->touch();
    }
  frost::freeze(model, model.layers(), frozen);
  std::vector<float> pixels, targets;
  for (std::int64_t i = 0; i < kBatch; ++i) {
    const ShapesSample sample = draw_shapes({.imgsz = kSide}, ShapesSplit::train, static_cast<std::uint64_t>(i));
    for (const std::uint8_t p : sample.image.pixels) pixels.push_back(static_cast<float>(p) / 255);
    for (const ShapeLabel& l : sample.labels)
      for (const double v : {static_cast<double>(i), static_cast<double>(l.cls), l.x, l.y, l.w, l.h})
        targets.push_back(static_cast<float>(v));
  }
  frost::Tensor image(device, {kBatch, kSide, kSide, 3}, DType::bf16, Role::input);
  image.assign(pixels);
  const float scale = type == DType::f16 ? 128 : 1;
  yolo::LossState loss(device, {}, 64);
  loss.grad_scale = frost::Tensor::from(device, {1, 1, 1, 1}, {scale});
  loss.set_targets(targets, kBatch, kClasses);
  yolo::train_step({.device = device, .compute = type}, model, as_type(image, type), loss);
  Step result{.loss = loss.result().loss, .gradients = {}, .errors = watched.errors};
  for (const Parameter* p : model.parameters())
    if (p->trainable) {
      std::vector<float>& gradient = result.gradients[p->name] = p->grad.to_vector();
      for (float& v : gradient) v /= scale;
    }
  return result;
}

/// ||a - b|| / ||b||
double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double off = 0, all = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    off += std::pow(static_cast<double>(a[i]) - b[i], 2), all += std::pow(static_cast<double>(b[i]), 2);
  return std::sqrt(off / all);
}

/// How far each parameter's gradient is from the f32 one, as a share of its length.
struct Distances {
  double worst = 0, median = 0;
  std::string of;
  Distances(const Step& mine, const Step& f32) {
    std::vector<double> all;
    for (const auto& [name, gradient] : f32.gradients) {
      const double distance = apart(mine.gradients.at(name), gradient);
      all.push_back(std::isfinite(distance) ? distance : INFINITY);
      if (all.back() > worst) worst = all.back(), of = name;
    }
    std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
    median = all[all.size() / 2];
  }
};

/// A gradient of the lowest layers passes 60 convolutions and norms on its way up and 60 on its way down: 240 roundings.
/// They are independent, each is at most rounding(type) / sqrt(3) in the mean square, and with running statistics no
/// operator amplifies them: the slopes of SiLU are of order one.
double whole_step(DType type) { return std::sqrt(240.0 / 3) * rounding(type); }

const std::vector<std::string> kEverything, kNormsFrozen{"model.*.bn.*"};

/// The 16-bit types of the device under test; says so where there is none.
std::vector<DType> half_types_here() {
  const auto backend = frost::testing::make_device_backend();
  std::vector<DType> types;
  for (const DType type : {DType::bf16, DType::f16})
    if (backend->supports(type)) types.push_back(type);
  if (types.empty()) MESSAGE("SKIPPED: ", backend->description(), " has no 16-bit instructions");
  return types;
}
bool bf16_on_the_cpu() {
  if (!frost::testing::on_cpu()) MESSAGE("SKIPPED: FROST_TEST_DEVICE=", frost::testing::test_device(), " is not the CPU");
  return frost::testing::on_cpu() && !half_types_here().empty();
}
}  // namespace

TEST_CASE("each convolution of a step in bf16 is the f32 one, rounded once") {
  if (!bf16_on_the_cpu()) return;
  const WatchedDevice::Errors errors = step(DType::bf16, kEverything).errors;
  MESSAGE("largest errors, as shares of what rounding allows: forward ", errors.forward, ", input gradients ", errors.dgrad,
          ", weight gradients ", errors.wgrad);
  CHECK(errors.calls == 60 + 59 + 60);  // forward, input gradients (none for the image), weight gradients
  CHECK(errors.forward <= 1);
  CHECK(errors.dgrad <= 1);
  CHECK(errors.wgrad <= 1);
}

TEST_CASE("gradients of steps in 16 bits are near the f32 step's where norms do not amplify") {
  for (const DType type : half_types_here()) {
    const Step f32 = step(DType::f32, kNormsFrozen), mine = step(type, kNormsFrozen);
    const Distances distances(mine, f32);
    MESSAGE(std::string(name_of(type)), ": gradients are ", distances.median, " of their length apart (median), at most ",
            distances.worst, " (", distances.of, "; limit ", whole_step(type), ")");
    CHECK(f32.gradients.size() == 63);  // 60 convolutions' weights, the heads' 3 biases
    CHECK(distances.worst < whole_step(type));
    CHECK(mine.loss == doctest::Approx(f32.loss).epsilon(whole_step(type)));
  }
}

TEST_CASE("planted faults fail the limits of a step in bf16") {
  if (!bf16_on_the_cpu()) return;
  for (const int call : {0, 20, 50, 58}) {  // from the heads down to layer 1
    CAPTURE(call);
    CHECK(step(DType::bf16, kEverything, {.dgrad = call, .factor = 1.1f}).errors.dgrad > 10);
    CHECK(std::isinf(step(DType::bf16, kEverything, {.dgrad = call, .factor = NAN}).errors.dgrad));
  }
  const Step f32 = step(DType::f32, kNormsFrozen);
  for (const int call : {0, 3, 6}) {  // a block of layers 2, 6, 8
    CAPTURE(call);
    CHECK(Distances(step(DType::bf16, kNormsFrozen, {.residual = call}), f32).worst > 2 * whole_step(DType::bf16));
  }
}
