#include "tests/kernels/device.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cuda_loader.h"
#include "tests/kernels/emulated_backend.h"
#include "tests/kernels/mirror.h"

namespace frost::testing {
namespace {

class MirroredBackend final : public Backend {
 public:
  explicit MirroredBackend(std::unique_ptr<Backend> device) : device_(std::move(device)) {}

  std::string description() const override { return device_->description(); }
  bool supports(DType compute) const override { return device_->supports(compute); }

  // Towards the tests, memory is the host's.
  void* allocate(std::size_t bytes) override { return std::aligned_alloc(256, (bytes + 256) / 256 * 256); }
  void release(void* memory) noexcept override { std::free(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override { std::memcpy(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { std::memcpy(host, device, bytes); }
  void zero(void* device, std::size_t bytes) override { std::memset(device, 0, bytes); }
  void synchronize() override { device_->synchronize(); }

  void conv_forward(const ConvForward& a) override {
    call(&Backend::conv_forward, a, [&](Mirror& m, ConvForward& d) {
      m.in(d.x), m.out(d.y);
      m.in(d.weight.data, filters(a.geometry, a.x.shape.c, a.y.shape.c));
      m.in(d.bias, a.y.shape.c);
    });
  }
  void conv_backward_data(const ConvBackwardData& a) override {
    call(&Backend::conv_backward_data, a, [&](Mirror& m, ConvBackwardData& d) {
      m.in(d.dy), m.out(d.dx);
      m.in(d.weight.data, filters(a.geometry, a.dx.shape.c, a.dy.shape.c));
    });
  }
  void conv_backward_weight(const ConvBackwardWeight& a) override {
    call(&Backend::conv_backward_weight, a, [&](Mirror& m, ConvBackwardWeight& d) {
      m.in(d.x), m.in(d.dy);
      m.out(d.dweight, filters(a.geometry, a.x.shape.c, a.dy.shape.c));
      m.out(d.dbias, a.dy.shape.c);
    });
  }
  void linear_forward(const LinearForward& a) override {
    call(&Backend::linear_forward, a, [](Mirror& m, LinearForward& d) {
      m.in(d.x, d.rows * d.in), m.in(d.weight, d.out * d.in), m.in(d.bias, d.out), m.out(d.y, d.rows * d.out);
    });
  }
  void linear_backward(const LinearBackward& a) override {
    call(&Backend::linear_backward, a, [](Mirror& m, LinearBackward& d) {
      m.in(d.x, d.rows * d.in), m.in(d.weight, d.out * d.in), m.in(d.dy, d.rows * d.out);
      m.out(d.dx, d.rows * d.in), m.out(d.dweight, d.out * d.in), m.out(d.dbias, d.out);
    });
  }

  void batch_statistics(const BatchStatistics& a) override {
    call(&Backend::batch_statistics, a, [](Mirror& m, BatchStatistics& d) {
      m.in(d.x);
      for (float** p : {&d.mean, &d.rstd, &d.running_mean, &d.running_var}) m.out(*p, d.x.shape.c);
    });
  }
  void norm_act_forward(const NormActForward& a) override {
    call(&Backend::norm_act_forward, a, [](Mirror& m, NormActForward& d) {
      m.in(d.x), m.in(d.residual), m.out(d.y);
      for (const float** p : {&d.weight, &d.bias, &d.mean, &d.rstd}) m.in(*p, d.x.shape.c);
    });
  }
  void norm_act_backward(const NormActBackward& a) override {
    call(&Backend::norm_act_backward, a, [](Mirror& m, NormActBackward& d) {
      m.in(d.x), m.in(d.dy), m.in(d.residual), m.out(d.dresidual), m.out(d.dx);
      for (const float** p : {&d.weight, &d.bias, &d.mean, &d.rstd}) m.in(*p, d.x.shape.c);
      for (float** p : {&d.dweight, &d.dbias}) m.out(*p, d.x.shape.c);
    });
  }

  void max_pool_forward(const MaxPoolForward& a) override { x_to_y(&Backend::max_pool_forward, a); }
  void max_pool_backward(const MaxPoolBackward& a) override { x_dy_to_dx(&Backend::max_pool_backward, a); }
  void avg_pool_forward(const AvgPoolForward& a) override { x_to_y(&Backend::avg_pool_forward, a); }
  void avg_pool_backward(const AvgPoolBackward& a) override { dy_to_dx(&Backend::avg_pool_backward, a); }
  void adaptive_avg_pool_forward(const AdaptiveAvgPoolForward& a) override {
    x_to_y(&Backend::adaptive_avg_pool_forward, a);
  }
  void adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward& a) override {
    dy_to_dx(&Backend::adaptive_avg_pool_backward, a);
  }
  void resize_forward(const ResizeForward& a) override { x_to_y(&Backend::resize_forward, a); }
  void resize_backward(const ResizeBackward& a) override { dy_to_dx(&Backend::resize_backward, a); }

  void copy(const CopyView& a) override { x_to_y(&Backend::copy, a); }
  void add(const AddForward& a) override {
    call(&Backend::add, a, [](Mirror& m, AddForward& d) { m.in(d.a), m.in(d.b), m.out(d.y); });
  }
  void mul_forward(const MulForward& a) override {
    call(&Backend::mul_forward, a, [](Mirror& m, MulForward& d) { m.in(d.a), m.in(d.b), m.out(d.y); });
  }
  void mul_backward(const MulBackward& a) override {
    call(&Backend::mul_backward, a,
         [](Mirror& m, MulBackward& d) { m.in(d.a), m.in(d.b), m.in(d.dy), m.out(d.da), m.out(d.db); });
  }
  void activation_forward(const ActivationForward& a) override { x_to_y(&Backend::activation_forward, a); }
  void activation_backward(const ActivationBackward& a) override { x_dy_to_dx(&Backend::activation_backward, a); }
  void zero_pad_forward(const ZeroPad& a) override { x_to_y(&Backend::zero_pad_forward, a); }
  void zero_pad_backward(const ZeroPad& a) override { x_to_y(&Backend::zero_pad_backward, a); }
  void space_to_depth(const SpaceToDepth& a) override { x_to_y(&Backend::space_to_depth, a); }
  void depth_to_space(const DepthToSpace& a) override { x_to_y(&Backend::depth_to_space, a); }
  void normalize_image(const NormalizeImage& a) override { x_to_y(&Backend::normalize_image, a); }
  void dropout(const Dropout& a) override {
    call(&Backend::dropout, a, [](Mirror& m, Dropout& d) { m.in(d.x), m.in(d.step_seed, 1), m.out(d.y); });
  }
  void softmax_forward(const SoftmaxForward& a) override { x_to_y(&Backend::softmax_forward, a); }
  void softmax_backward(const SoftmaxBackward& a) override {
    call(&Backend::softmax_backward, a, [](Mirror& m, SoftmaxBackward& d) { m.in(d.y), m.in(d.dy), m.out(d.dx); });
  }
  void cross_entropy(const CrossEntropy& a) override {
    call(&Backend::cross_entropy, a, [](Mirror& m, CrossEntropy& d) {
      m.in(d.logits, d.rows * d.classes), m.in(d.labels, d.rows), m.out(d.loss, 1), m.out(d.dlogits, d.rows * d.classes);
      m.in(d.grad_scale, 1);
    });
  }

  // The mirror brings the workspace: towards the tests, none is needed.
  std::size_t detect_loss_workspace(const DetectLoss&) const override { return 0; }
  void detect_loss(const DetectLoss& a) override {
    std::vector<std::uint8_t> workspace(device_->detect_loss_workspace(a), 0xff);
    call(&Backend::detect_loss, a, [&](Mirror& m, DetectLoss& d) {
      for (auto& level : d.levels) m.in(level.head);
      for (auto& dhead : d.dheads) m.out(dhead);
      m.in(d.targets, 6 * d.target_capacity);
      m.out(d.balance, static_cast<std::int64_t>(d.levels.size()));
      m.in(d.grad_scale, 1), m.out(d.result, kDetectLossResults);
      d.workspace = workspace.data();
      m.out(d.workspace, workspace.size());
    });
  }
  DecodedRows detect_decode(const DetectDecode& a) override {
    DecodedRows rows = call(&Backend::detect_decode, a, [](Mirror& m, DetectDecode& d) {
      for (auto& level : d.levels) m.in(level.head);
    });
    const std::int64_t count = std::accumulate(rows.counts.begin(), rows.counts.end(), std::int64_t{0});
    const auto host = std::make_shared<std::vector<float>>(static_cast<std::size_t>(count * (5 + a.classes)));
    device_->synchronize();
    if (count > 0) device_->download(host->data(), rows.data(), host->size() * sizeof(float));
    rows.memory = {host, host->data()};
    return rows;
  }
  std::vector<std::vector<Detection>> nms(const Nms& a) override {
    return call(&Backend::nms, a, [](Mirror& m, Nms& d) {
      const std::int64_t count = std::accumulate(d.row_counts.begin(), d.row_counts.end(), std::int64_t{0});
      m.in(d.rows, count * (5 + d.classes));
    });
  }

  void sum_of_squares(const SumOfSquares& a) override {
    call(&Backend::sum_of_squares, a, [](Mirror& m, SumOfSquares& d) { m.in(d.values, d.count), m.out(d.state, 1); });
  }
  void prepare_step(const PrepareStep& a) override {
    call(&Backend::prepare_step, a, [](Mirror& m, PrepareStep& d) { m.out(d.state, 1), m.in(d.settings, 1); });
  }
  void sgd_step(const SgdStep& a) override {
    call(&Backend::sgd_step, a, [](Mirror& m, SgdStep& d) {
      m.in(d.grad, d.count), m.in(d.mask, d.count), m.in(d.state, 1), m.in(d.settings, 1);
      for (float** p : {&d.value, &d.momentum_buffer, &d.ema}) m.out(*p, d.count);
    });
  }
  void adam_step(const AdamStep& a) override {
    call(&Backend::adam_step, a, [](Mirror& m, AdamStep& d) {
      m.in(d.grad, d.count), m.in(d.mask, d.count), m.in(d.state, 1), m.in(d.settings, 1);
      for (float** p : {&d.value, &d.exp_avg, &d.exp_avg_sq, &d.ema}) m.out(*p, d.count);
    });
  }
  void ema_update(const EmaUpdate& a) override {  // a list of pointers: first what they point to, then the list itself
    std::vector<EmaItem> items(a.items, a.items + a.item_count);
    Mirror values(*device_);
    for (EmaItem& item : items) values.in(item.value, item.count), values.out(item.ema, item.count);
    EmaUpdate with_items = a;
    with_items.items = items.data();
    values.run([&] {
      call(&Backend::ema_update, with_items, [](Mirror& m, EmaUpdate& d) { m.in(d.items, d.item_count), m.in(d.state, 1); });
    });
  }

 private:
  static std::int64_t filters(const ConvGeometry& g, std::int64_t in, std::int64_t out) {
    return out * g.kernel_h * g.kernel_w * (in / g.groups);
  }
  /// primitive(arguments) on the device; `list` names what the arguments point to.
  template <class Result, class Arguments, class List>
  Result call(Result (Backend::*primitive)(const Arguments&), const Arguments& arguments, const List& list) {
    Arguments mirrored = arguments;
    Mirror m(*device_);
    list(m, mirrored);
    return m.run([&] { return ((*device_).*primitive)(mirrored); });
  }
  template <class Primitive, class Arguments>
  void x_to_y(Primitive primitive, const Arguments& a) {
    call(primitive, a, [](Mirror& m, Arguments& d) { m.in(d.x), m.out(d.y); });
  }
  template <class Primitive, class Arguments>
  void x_dy_to_dx(Primitive primitive, const Arguments& a) {
    call(primitive, a, [](Mirror& m, Arguments& d) { m.in(d.x), m.in(d.dy), m.out(d.dx); });
  }
  template <class Primitive, class Arguments>
  void dy_to_dx(Primitive primitive, const Arguments& a) {
    call(primitive, a, [](Mirror& m, Arguments& d) { m.in(d.dy), m.out(d.dx); });
  }

  std::unique_ptr<Backend> device_;
};

}  // namespace

std::unique_ptr<Backend> make_mirrored(std::unique_ptr<Backend> device) {
  return std::make_unique<MirroredBackend>(std::move(device));
}

std::string test_device() {
  const char* asked = std::getenv("FROST_TEST_DEVICE");
  return asked && *asked ? asked : "cpu";
}

std::unique_ptr<Backend> make_device_backend(bool deterministic) {
  const std::string name = test_device();
  if (name == "cpu") return make_cpu_backend();
  if (name == "emulated") return make_emulated_backend();
  if (name == "emulated-backwards") return make_emulated_backend(true);
  FROST_CHECK(name == "cuda" || name.starts_with("cuda:"), "FROST_TEST_DEVICE=", name,
              " is not one of cpu, emulated, emulated-backwards, cuda, cuda:N");
  auto cuda = load_cuda({.device = name == "cuda" ? 0 : std::stoi(name.substr(5)), .deterministic = deterministic});
  if (!cuda.backend) {
    std::printf("SKIPPED: FROST_TEST_DEVICE=%s: %s\n", name.c_str(), cuda.why_not.c_str());
    std::exit(kSkipped);
  }
  return std::move(cuda.backend);
}

std::unique_ptr<Backend> make_test_backend() {
  return on_cpu() ? make_device_backend() : make_mirrored(make_device_backend());
}

}  // namespace frost::testing
