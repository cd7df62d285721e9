#include "tests/kernels/emulated_backend.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/detect_decode.h"
#include "kernels/cuda/detect_loss.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/nms.h"
#include "kernels/cuda/norm_act.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/pool.h"
#include "kernels/cuda/resize.h"
#include "kernels/cuda/softmax.h"
#include "tests/kernels/host_launch.h"

namespace frost::testing {
namespace {

[[noreturn]] void missing(const char* primitive) { fail("emulated CUDA: ", primitive, " has no host form"); }

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

  void conv_forward(const ConvForward&) override { missing("conv_forward"); }
  void conv_backward_data(const ConvBackwardData&) override { missing("conv_backward_data"); }
  void conv_backward_weight(const ConvBackwardWeight&) override { missing("conv_backward_weight"); }
  void linear_forward(const LinearForward&) override { missing("linear_forward"); }
  void linear_backward(const LinearBackward&) override { missing("linear_backward"); }

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
  void detect_decode(const DetectDecode& a) override { cuda::detect_decode(launch_, a); }
  std::vector<Detection> nms(const Nms& a) override { return cuda::nms(launch_, a); }

  void sum_of_squares(const SumOfSquares& a) override { cuda::sum_of_squares(launch_, a); }
  void prepare_step(const PrepareStep& a) override { launch_.items(1, cuda::Prepare{a}); }
  void sgd_step(const SgdStep& a) override { cuda::sgd_step(launch_, a); }
  void adam_step(const AdamStep& a) override { cuda::adam_step(launch_, a); }
  void ema_update(const EmaUpdate& a) override { launch_.items(a.item_count * a.largest, cuda::EmaList{a}); }

 private:
  cuda::HostLaunch launch_;
};

}  // namespace

std::unique_ptr<Backend> make_emulated_backend(bool backwards) { return std::make_unique<EmulatedBackend>(backwards); }

}  // namespace frost::testing
