#pragma once
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/runtime/context.h"
#include "kernels/cuda_library.h"

namespace frost::cuda {

class ConvEngine;    // cuDNN's plans and converted weights; kernels/cuda/convolution/conv.cu
class LinearEngine;  // cuBLASLt's; kernels/cuda/kernels/linear.cu
class Staging;       // pinned memory on the way to and from the device; kernels/cuda/runtime/staging.cpp

class CudaBackend final : public Backend {
 public:
  /// Throws Error where the device, or a library of NVIDIA's, cannot be used.
  explicit CudaBackend(const CudaOptions& options);
  ~CudaBackend() override;

  std::string description() const override;
  bool supports(DType compute) const override;

  void* allocate(std::size_t bytes) override;
  void release(void* memory) noexcept override;
  void upload(void* device, const void* host, std::size_t bytes) override;
  void download(void* host, const void* device, std::size_t bytes) override;
  void zero(void* device, std::size_t bytes) override;
  void synchronize() override;
  void set_workspace_source(PersistentWorkspaceSource source) override;

  bool can_capture() const override;
  void begin_capture() override;
  std::unique_ptr<Captured> end_capture() override;

  void conv_forward(const ConvForward&) override;
  void conv_backward_data(const ConvBackwardData&) override;
  void conv_backward_weight(const ConvBackwardWeight&) override;
  void linear_forward(const LinearForward&) override;
  void linear_backward(const LinearBackward&) override;

  void batch_statistics(const BatchStatistics&) override;
  void norm_act_forward(const NormActForward&) override;
  void norm_act_backward(const NormActBackward&) override;

  void max_pool_forward(const MaxPoolForward&) override;
  void max_pool_backward(const MaxPoolBackward&) override;
  void avg_pool_forward(const AvgPoolForward&) override;
  void avg_pool_backward(const AvgPoolBackward&) override;
  void adaptive_avg_pool_forward(const AdaptiveAvgPoolForward&) override;
  void adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward&) override;
  void resize_forward(const ResizeForward&) override;
  void resize_backward(const ResizeBackward&) override;

  void copy(const CopyView&) override;
  void add(const AddForward&) override;
  void mul_forward(const MulForward&) override;
  void mul_backward(const MulBackward&) override;
  void activation_forward(const ActivationForward&) override;
  void activation_backward(const ActivationBackward&) override;
  void zero_pad_forward(const ZeroPad&) override;
  void zero_pad_backward(const ZeroPad&) override;
  void space_to_depth(const SpaceToDepth&) override;
  void depth_to_space(const DepthToSpace&) override;
  void normalize_image(const NormalizeImage&) override;
  void dropout(const Dropout&) override;
  void softmax_forward(const SoftmaxForward&) override;
  void softmax_backward(const SoftmaxBackward&) override;
  void cross_entropy(const CrossEntropy&) override;

  std::size_t detect_loss_workspace(const DetectLoss&) const override;
  void detect_loss(const DetectLoss&) override;
  DecodedRows detect_decode(const DetectDecode&) override;
  std::vector<std::vector<Detection>> nms(const Nms&) override;

  void sum_of_squares(const SumOfSquares&) override;
  void prepare_step(const PrepareStep&) override;
  void sgd_step(const SgdStep&) override;
  void adam_step(const AdamStep&) override;
  void ema_update(const EmaUpdate&) override;

 private:
  CudaOptions options_;
  Context context_;  // created first, destroyed last: the others' memory uses its streams
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<ConvEngine> conv_;
  std::unique_ptr<LinearEngine> linear_;
};

static_assert(!std::is_abstract_v<CudaBackend>, "every primitive of Backend has its CUDA version");

}  // namespace frost::cuda
