#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/autograd/parameter.h"
#include "kernels/backend.h"

namespace frost::testing {

/// A CPU that captures as a CUDA stream does: between begin_capture and end_capture calls are written down and not run;
/// replay runs them with the arguments they had. What a captured CUDA graph cannot do throws: reading results, taking values
/// from the host. Filters whose version was new to the device during the capture are converted by each replay;
/// those it knew before stay as they were converted then.
class RecordingBackend : public Backend {
 public:
  explicit RecordingBackend(std::unique_ptr<Backend> device = make_cpu_backend()) : device_(std::move(device)) {}

  std::int64_t captures = 0, replays = 0, eager_calls = 0;  // calls of primitives outside of captures
  std::int64_t recordings = 0;                              // that live

  std::string description() const override { return device_->description() + ", recording"; }
  bool supports(DType compute) const override { return device_->supports(compute); }

  void* allocate(std::size_t bytes) override { return device_->allocate(bytes); }
  void release(void* memory) noexcept override { device_->release(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override {
    FROST_CHECK(!tape_, "capture: an upload");
    device_->upload(device, host, bytes);
  }
  void download(void* host, const void* device, std::size_t bytes) override {
    FROST_CHECK(!tape_, "capture: a download");
    device_->download(host, device, bytes);
  }
  void zero(void* device, std::size_t bytes) override {
    queue([this, device, bytes] { device_->zero(device, bytes); });
  }
  void synchronize() override {
    FROST_CHECK(!tape_, "capture: the host waits");
    device_->synchronize();
  }

  bool can_capture() const override { return true; }
  void begin_capture() override {
    FROST_CHECK(!tape_, "capture: one is under way");
    tape_ = std::make_shared<Calls>();
    known_ = seen_;
    ++captures;
  }
  std::unique_ptr<Captured> end_capture() override {
    FROST_CHECK(tape_, "capture: none is under way");
    return std::make_unique<Recording>(*this, std::exchange(tape_, nullptr));
  }

  void conv_forward(const ConvForward& a) override { filtered(&Backend::conv_forward, a); }
  void conv_backward_data(const ConvBackwardData& a) override { filtered(&Backend::conv_backward_data, a); }
  void conv_backward_weight(const ConvBackwardWeight& a) override { call(&Backend::conv_backward_weight, a); }
  void linear_forward(const LinearForward& a) override { call(&Backend::linear_forward, a); }
  void linear_backward(const LinearBackward& a) override { call(&Backend::linear_backward, a); }
  void batch_statistics(const BatchStatistics& a) override { call(&Backend::batch_statistics, a); }
  void norm_act_forward(const NormActForward& a) override { call(&Backend::norm_act_forward, a); }
  void norm_act_backward(const NormActBackward& a) override { call(&Backend::norm_act_backward, a); }
  void max_pool_forward(const MaxPoolForward& a) override { call(&Backend::max_pool_forward, a); }
  void max_pool_backward(const MaxPoolBackward& a) override { call(&Backend::max_pool_backward, a); }
  void avg_pool_forward(const AvgPoolForward& a) override { call(&Backend::avg_pool_forward, a); }
  void avg_pool_backward(const AvgPoolBackward& a) override { call(&Backend::avg_pool_backward, a); }
  void adaptive_avg_pool_forward(const AdaptiveAvgPoolForward& a) override { call(&Backend::adaptive_avg_pool_forward, a); }
  void adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward& a) override {
    call(&Backend::adaptive_avg_pool_backward, a);
  }
  void resize_forward(const ResizeForward& a) override { call(&Backend::resize_forward, a); }
  void resize_backward(const ResizeBackward& a) override { call(&Backend::resize_backward, a); }
  void copy(const CopyView& a) override { call(&Backend::copy, a); }
  void add(const AddForward& a) override { call(&Backend::add, a); }
  void mul_forward(const MulForward& a) override { call(&Backend::mul_forward, a); }
  void mul_backward(const MulBackward& a) override { call(&Backend::mul_backward, a); }
  void activation_forward(const ActivationForward& a) override { call(&Backend::activation_forward, a); }
  void activation_backward(const ActivationBackward& a) override { call(&Backend::activation_backward, a); }
  void zero_pad_forward(const ZeroPad& a) override { call(&Backend::zero_pad_forward, a); }
  void zero_pad_backward(const ZeroPad& a) override { call(&Backend::zero_pad_backward, a); }
  void space_to_depth(const SpaceToDepth& a) override { call(&Backend::space_to_depth, a); }
  void depth_to_space(const DepthToSpace& a) override { call(&Backend::depth_to_space, a); }
  void normalize_image(const NormalizeImage& a) override { call(&Backend::normalize_image, a); }
  void dropout(const Dropout& a) override { call(&Backend::dropout, a); }
  void softmax_forward(const SoftmaxForward& a) override { call(&Backend::softmax_forward, a); }
  void softmax_backward(const SoftmaxBackward& a) override { call(&Backend::softmax_backward, a); }
  void cross_entropy(const CrossEntropy& a) override { call(&Backend::cross_entropy, a); }
  std::size_t detect_loss_workspace(const DetectLoss& a) const override { return device_->detect_loss_workspace(a); }
  void detect_loss(const DetectLoss& a) override { call(&Backend::detect_loss, a); }
  DecodedRows detect_decode(const DetectDecode& a) override {
    FROST_CHECK(!tape_, "capture: the host waits for numbers of rows");
    return device_->detect_decode(a);
  }
  std::vector<std::vector<Detection>> nms(const Nms& a) override {
    FROST_CHECK(!tape_, "capture: detections come to the host");
    return device_->nms(a);
  }
  void sum_of_squares(const SumOfSquares& a) override { call(&Backend::sum_of_squares, a); }
  void prepare_step(const PrepareStep& a) override { call(&Backend::prepare_step, a); }
  void sgd_step(const SgdStep& a) override { call(&Backend::sgd_step, a); }
  void adam_step(const AdamStep& a) override { call(&Backend::adam_step, a); }
  void ema_update(const EmaUpdate& a) override { call(&Backend::ema_update, a); }

 private:
  using Calls = std::vector<std::function<void()>>;

  class Recording final : public Captured {
   public:
    Recording(RecordingBackend& backend, std::shared_ptr<Calls> calls) : backend_(backend), calls_(std::move(calls)) {
      ++backend_.recordings;
    }
    ~Recording() override { --backend_.recordings; }
    void replay() override {
      FROST_CHECK(!backend_.tape_, "capture: a replay inside");
      ++backend_.replays;
      backend_.fresh_.clear();
      for (const auto& each : *calls_) each();
    }

   private:
    RecordingBackend& backend_;
    std::shared_ptr<Calls> calls_;
  };

  void queue(std::function<void()> work) {
    if (tape_) {
      tape_->push_back(std::move(work));
    } else {
      ++eager_calls;
      work();
    }
  }
  template <class Args>
  void call(void (Backend::*method)(const Args&), const Args& args) {
    queue([this, method, args] { ((*device_).*method)(args); });
  }
  template <class Args>
  void filtered(void (Backend::*method)(const Args&), const Args& args) {
    const std::uint64_t version = args.weight.version;
    seen_.insert(version);
    if (!tape_ || known_.contains(version)) return call(method, args);
    queue([this, method, args, version] {
      Args now = args;
      std::uint64_t& fresh = fresh_[version];  // one conversion a replay, shared by forward and backward
      if (fresh == 0) fresh = new_version();
      now.weight.version = fresh;
      ((*device_).*method)(now);
    });
  }

  std::unique_ptr<Backend> device_;
  std::shared_ptr<Calls> tape_;           // of the capture under way
  std::set<std::uint64_t> seen_, known_;  // versions: ever, and before the capture under way
  std::map<std::uint64_t, std::uint64_t> fresh_;
};

}  // namespace frost::testing
