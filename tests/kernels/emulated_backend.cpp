#include "tests/kernels/emulated_backend.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/conv_call.h"
#include "kernels/cuda/detect_decode.h"
#include "kernels/cuda/detect_loss.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/nms.h"
#include "kernels/cuda/norm_act.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/pool.h"
#include "kernels/cuda/resize.h"
#include "kernels/cuda/softmax.h"
#include "tests/kernels/host_conv_runner.h"
#include "tests/kernels/host_launch.h"

namespace frost::testing {
namespace {

/// In cuBLASLt's place.
void multiply(const cuda::MatrixProduct& p, const float* a, const float* b, const float* bias, float* d) {
  for (std::int64_t column = 0; column < p.n; ++column)
    for (std::int64_t row = 0; row < p.m; ++row) {
      double sum = p.bias ? bias[row] : 0;
      for (std::int64_t k = 0; k < p.k; ++k)
        sum += static_cast<double>(a[p.transpose_a ? row * p.k + k : k * p.m + row]) *
               static_cast<double>(b[p.transpose_b ? k * p.n + column : column * p.k + k]);
      float& to = d[column * p.m + row];
      to = static_cast<float>(p.add ? static_cast<double>(to) + sum : sum);
    }
}

class EmulatedBackend final : public Backend {
 public:
  explicit EmulatedBackend(bool backwards) : launch_(backwards) {}

  std::string description() const override { return "CUDA's kernels on the host"; }
  bool supports(DType compute) const override {
    return compute == DType::f32 || compute == DType::bf16 || compute == DType::f16;
  }

  void* allocate(std::size_t bytes) override { return std::aligned_alloc(256, (bytes + 256) / 256 * 256); }
  void release(void* memory) noexcept override { std::free(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override { std::memcpy(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { std::memcpy(host, device, bytes); }
  void zero(void* device, std::size_t bytes) override { std::memset(device, 0, bytes); }
  void synchronize() override {}

  void conv_forward(const ConvForward& a) override { convolutions().forward(a); }
  void conv_backward_data(const ConvBackwardData& a) override { convolutions().backward_data(a); }
  void conv_backward_weight(const ConvBackwardWeight& a) override { convolutions().backward_weight(a); }
  void linear_forward(const LinearForward& a) override { cuda::linear_forward(multiply, a); }
  void linear_backward(const LinearBackward& a) override { cuda::linear_backward(launch_, multiply, a); }

  void batch_statistics(const BatchStatistics& a) override { cuda::batch_statistics(launch_, a); }
  void norm_act_forward(const NormActForward& a) override { cuda::norm_act_forward(launch_, a); }
  void norm_act_backward(const NormActBackward& a) override { cuda::norm_act_backward(launch_, a); }

  void max_pool_forward(const MaxPoolForward& a) override { cuda::max_pool_forward(launch_, a); }
  void max_pool_backward(const MaxPoolBackward& a) override { cuda::max_pool_backward(launch_, a); }
  void adaptive_avg_pool_forward(const AdaptiveAvgPoolForward& a) override { cuda::adaptive_avg_pool_forward(launch_, a); }
  void adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward& a) override {
    cuda::adaptive_avg_pool_backward(launch_, a);
  }
  void resize_forward(const ResizeForward& a) override { cuda::resize_forward(launch_, a); }
  void resize_backward(const ResizeBackward& a) override { cuda::resize_backward(launch_, a); }

  void copy(const CopyView& a) override { cuda::copy(launch_, a); }
  void add(const AddForward& a) override { cuda::add(launch_, a); }
  void mul_forward(const MulForward& a) override { cuda::mul_forward(launch_, a); }
  void mul_backward(const MulBackward& a) override { cuda::mul_backward(launch_, a); }
  void activation_forward(const ActivationForward& a) override { cuda::activation_forward(launch_, a); }
  void activation_backward(const ActivationBackward& a) override { cuda::activation_backward(launch_, a); }
  void zero_pad_forward(const ZeroPad& a) override { cuda::zero_pad_forward(launch_, a); }
  void zero_pad_backward(const ZeroPad& a) override { cuda::zero_pad_backward(launch_, a); }
  void space_to_depth(const SpaceToDepth& a) override { cuda::space_to_depth(launch_, a); }
  void depth_to_space(const DepthToSpace& a) override { cuda::depth_to_space(launch_, a); }
  void normalize_image(const NormalizeImage& a) override { cuda::normalize_image(launch_, a); }
  void dropout(const Dropout& a) override { cuda::run_dropout(launch_, a); }
  void softmax_forward(const SoftmaxForward& a) override { cuda::softmax_forward(launch_, a); }
  void softmax_backward(const SoftmaxBackward& a) override { cuda::softmax_backward(launch_, a); }
  void cross_entropy(const CrossEntropy& a) override { cuda::cross_entropy(launch_, a); }

  std::size_t detect_loss_workspace(const DetectLoss& a) const override {
    std::size_t bytes = 0;
    cuda::plan_loss(a, bytes);
    return bytes;
  }
  void detect_loss(const DetectLoss& a) override { cuda::detect_loss(launch_, a); }
  DecodedRows detect_decode(const DetectDecode& a) override { return cuda::detect_decode(launch_, a); }
  std::vector<std::vector<Detection>> nms(const Nms& a) override { return cuda::nms(launch_, a); }

  void sum_of_squares(const SumOfSquares& a) override { cuda::sum_of_squares(launch_, a); }
  void prepare_step(const PrepareStep& a) override { launch_.items(1, cuda::Prepare{a}); }
  void sgd_step(const SgdStep& a) override { cuda::sgd_step(launch_, a); }
  void adam_step(const AdamStep& a) override { cuda::adam_step(launch_, a); }
  void ema_update(const EmaUpdate& a) override { launch_.items(a.item_count * a.largest, cuda::EmaList{a}); }

 private:
  cuda::ConvCalls<cuda::HostLaunch, cuda::HostConvRunner> convolutions() { return {launch_, cudnn_, false, false}; }

  cuda::HostLaunch launch_;
  std::unique_ptr<Backend> cpu_ = make_cpu_backend();
  cuda::HostConvRunner cudnn_{launch_, *cpu_};
};

}  // namespace

std::unique_ptr<Backend> make_emulated_backend(bool backwards) { return std::make_unique<EmulatedBackend>(backwards); }

}  // namespace frost::testing
