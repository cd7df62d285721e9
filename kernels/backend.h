#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels/captured.h"
#include "kernels/conv.h"
#include "kernels/detect.h"
#include "kernels/elementwise.h"
#include "kernels/norm_act.h"
#include "kernels/optimizer.h"
#include "kernels/persistent_workspace.h"
#include "kernels/pool.h"
#include "kernels/view.h"

namespace frost {

/// Everything a device must be able to do. To port frost to a new device, read this file and the argument structs beside
/// it. Kernels own no memory and do not depend on autograd. Calls are queued in order; results may be read on the host
/// after synchronize().
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string description() const = 0;     // for the start line of the tools: "CPU (2 threads, avx512_core_bf16)"
  virtual bool supports(DType compute) const = 0;  // may activations be of this type?

  // memory: raw; caching is the engine's allocator. Blocks are aligned to at least 64 bytes.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* memory) noexcept = 0;
  virtual void upload(void* device, const void* host, std::size_t bytes) = 0;
  virtual void download(void* host, const void* device, std::size_t bytes) = 0;
  virtual void zero(void* device, std::size_t bytes) = 0;
  virtual void synchronize() = 0;

  // From now on the backend's own memory comes from `source`, so that the caller can account it. Earlier memory is freed.
  // Empty: from its own allocate(). Backends that keep nothing, or do not report it, ignore this.
  virtual void set_workspace_source(PersistentWorkspaceSource source) { (void)source; }

  // capture: the calls between begin and end are captured instead of run. Inside, nothing may come from the host and
  // nothing may wait; memory may be allocated, outside of the captured graph. Run the same work once before, so that plans
  // and caches exist. A device that can capture works asynchronously.
  virtual bool can_capture() const { return false; }
  virtual void begin_capture() { fail("this device cannot capture"); }
  virtual std::unique_ptr<Captured> end_capture() { fail("this device cannot capture"); }

  // convolution and linear
  virtual void conv_forward(const ConvForward&) = 0;
  virtual void conv_backward_data(const ConvBackwardData&) = 0;
  virtual void conv_backward_weight(const ConvBackwardWeight&) = 0;
  virtual void linear_forward(const LinearForward&) = 0;
  virtual void linear_backward(const LinearBackward&) = 0;

  // norm + activation
  virtual void batch_statistics(const BatchStatistics&) = 0;
  virtual void norm_act_forward(const NormActForward&) = 0;
  virtual void norm_act_backward(const NormActBackward&) = 0;

  // pooling and resize
  virtual void max_pool_forward(const MaxPoolForward&) = 0;
  virtual void max_pool_backward(const MaxPoolBackward&) = 0;
  virtual void avg_pool_forward(const AvgPoolForward&) = 0;
  virtual void avg_pool_backward(const AvgPoolBackward&) = 0;
  virtual void adaptive_avg_pool_forward(const AdaptiveAvgPoolForward&) = 0;
  virtual void adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward&) = 0;
  virtual void resize_forward(const ResizeForward&) = 0;
  virtual void resize_backward(const ResizeBackward&) = 0;

  // elementwise
  virtual void copy(const CopyView&) = 0;
  virtual void add(const AddForward&) = 0;
  virtual void mul_forward(const MulForward&) = 0;
  virtual void mul_backward(const MulBackward&) = 0;
  virtual void activation_forward(const ActivationForward&) = 0;
  virtual void activation_backward(const ActivationBackward&) = 0;
  virtual void zero_pad_forward(const ZeroPad&) = 0;
  virtual void zero_pad_backward(const ZeroPad&) = 0;
  virtual void space_to_depth(const SpaceToDepth&) = 0;
  virtual void depth_to_space(const DepthToSpace&) = 0;
  virtual void normalize_image(const NormalizeImage&) = 0;
  virtual void dropout(const Dropout&) = 0;
  virtual void softmax_forward(const SoftmaxForward&) = 0;
  virtual void softmax_backward(const SoftmaxBackward&) = 0;
  virtual void cross_entropy(const CrossEntropy&) = 0;

  // detection
  virtual std::size_t detect_loss_workspace(const DetectLoss&) const = 0;  // bytes; the pointers in it are not read
  virtual void detect_loss(const DetectLoss&) = 0;
  virtual DecodedRows detect_decode(const DetectDecode&) = 0;
  virtual std::vector<std::vector<Detection>> nms(const Nms&) = 0;

  // optimizer
  virtual void sum_of_squares(const SumOfSquares&) = 0;
  virtual void prepare_step(const PrepareStep&) = 0;
  virtual void sgd_step(const SgdStep&) = 0;
  virtual void adam_step(const AdamStep&) = 0;
  virtual void ema_update(const EmaUpdate&) = 0;
};

/// The CPU backend: oneDNN for convolution and linear, OpenMP and kernels/math for the rest.
std::unique_ptr<Backend> make_cpu_backend();

}  // namespace frost
