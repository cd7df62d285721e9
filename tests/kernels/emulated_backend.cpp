#include "tests/kernels/emulated_backend.h"

#include <sys/mman.h>

#include <cstring>
#include <map>

#include "kernels/cuda/convolution/conv_call.h"
#include "kernels/cuda/kernels/detect_decode.cuh"
#include "kernels/cuda/kernels/detect_loss.cuh"
#include "kernels/cuda/kernels/dropout.cuh"
#include "kernels/cuda/kernels/elementwise.cuh"
#include "kernels/cuda/kernels/linear.cuh"
#include "kernels/cuda/kernels/nms.cuh"
#include "kernels/cuda/kernels/norm_act.cuh"
#include "kernels/cuda/kernels/optimizer.cuh"
#include "kernels/cuda/kernels/pool.cuh"
#include "kernels/cuda/kernels/resize.cuh"
#include "kernels/cuda/kernels/softmax.cuh"
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

/// Memory that nobody may touch but while an Open lives: one range of addresses, so that opening it is one call. Addresses
/// are not used twice, so neither is memory that was given back.
class DeviceMemory {
 public:
  explicit DeviceMemory(HostAccess access)
      : closed_(access == HostAccess::closed),
        base_(mmap(nullptr, kRange, closed_ ? PROT_NONE : PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    FROST_CHECK(base_ != MAP_FAILED, "emulated CUDA: no range of ", kRange, " addresses");
    madvise(base_, kRange, MADV_HUGEPAGE);  // opening and closing walk the range's pages: the fewer, the faster
  }
  ~DeviceMemory() { munmap(base_, kRange); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* allocate(std::size_t bytes) {
    bytes = (bytes + kPage) / kPage * kPage;
    FROST_CHECK(bytes <= kRange - used_, "emulated CUDA: all ", kRange, " bytes were given out");
    void* memory = static_cast<char*>(base_) + used_;
    used_ += bytes;
    blocks_[memory] = bytes;
    return memory;
  }
  void release(void* memory) noexcept {
    if (!memory) return;
    madvise(memory, blocks_.at(memory), MADV_DONTNEED);
    blocks_.erase(memory);
  }

  class Open {
   public:
    explicit Open(DeviceMemory& memory) : memory_(memory) { protect(PROT_READ | PROT_WRITE); }
    ~Open() { protect(PROT_NONE); }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;

   private:
    void protect(int how) const {
      if (memory_.closed_) mprotect(memory_.base_, kRange, how);
    }
    DeviceMemory& memory_;
  };

 private:
  static constexpr std::size_t kPage = 4096, kRange = std::size_t{1} << 36;
  bool closed_;
  void* base_;
  std::size_t used_ = 0;
  std::map<void*, std::size_t> blocks_;
};

/// A HostLaunch whose kernels and copies alone see the device's memory.
class DeviceLaunch : public cuda::HostLaunch {
 public:
  DeviceLaunch(DeviceMemory& memory, bool backwards) : HostLaunch(backwards), memory_(memory) {}

  template <class Kernel>
  void items(std::int64_t count, const Kernel& kernel) const {
    const DeviceMemory::Open open(memory_);
    HostLaunch::items(count, kernel);
  }
  template <class Kernel>
  void blocks(std::int64_t count, const Kernel& kernel) const {
    const DeviceMemory::Open open(memory_);
    HostLaunch::blocks(count, kernel);
  }
  template <class Kernel>
  void rounds(std::int64_t count, const Kernel& kernel) const {
    const DeviceMemory::Open open(memory_);
    HostLaunch::rounds(count, kernel);
  }
  void sort(const std::uint64_t* from, std::uint64_t* to, std::int64_t count, void* room, std::size_t bytes) const {
    const DeviceMemory::Open open(memory_);
    HostLaunch::sort(from, to, count, room, bytes);
  }
  void to_device(void* device, const void* host, std::size_t bytes) const { to_host(device, host, bytes); }
  void to_host(void* to, const void* from, std::size_t bytes) const {
    const DeviceMemory::Open open(memory_);
    std::memcpy(to, from, bytes);
  }
  PersistentWorkspace keep(std::size_t bytes) const {
    const PersistentWorkspace block(memory_.allocate(bytes), [&memory = memory_](void* p) { memory.release(p); });
    const DeviceMemory::Open open(memory_);
    std::memset(block.get(), 0xff, bytes);
    return block;
  }
  void* scratch(std::size_t bytes) const { return (scratch_ = keep(bytes)).get(); }

 private:
  DeviceMemory& memory_;
  mutable PersistentWorkspace scratch_;
};

class EmulatedBackend final : public Backend {
 public:
  EmulatedBackend(bool backwards, HostAccess access) : memory_(access), launch_(memory_, backwards) {}

  std::string description() const override { return "CUDA's kernels on the host"; }
  bool supports(DType compute) const override {
    return compute == DType::f32 || compute == DType::bf16 || compute == DType::f16;
  }

  void* allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  void release(void* memory) noexcept override { memory_.release(memory); }
  void upload(void* device, const void* host, std::size_t bytes) override { launch_.to_device(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { launch_.to_host(host, device, bytes); }
  void zero(void* device, std::size_t bytes) override {
    const DeviceMemory::Open open(memory_);
    std::memset(device, 0, bytes);
  }
  void synchronize() override {}

  void conv_forward(const ConvForward& a) override {
    const DeviceMemory::Open open(memory_);
    convolutions().forward(a);
  }
  void conv_backward_data(const ConvBackwardData& a) override {
    const DeviceMemory::Open open(memory_);
    convolutions().backward_data(a);
  }
  void conv_backward_weight(const ConvBackwardWeight& a) override {
    const DeviceMemory::Open open(memory_);
    convolutions().backward_weight(a);
  }
  void linear_forward(const LinearForward& a) override {
    const DeviceMemory::Open open(memory_);
    cuda::linear_forward(multiply, a);
  }
  void linear_backward(const LinearBackward& a) override {
    const DeviceMemory::Open open(memory_);
    cuda::linear_backward(static_cast<const cuda::HostLaunch&>(launch_), multiply, a);
  }

  void batch_statistics(const BatchStatistics& a) override { cuda::batch_statistics(launch_, a); }
  void norm_act_forward(const NormActForward& a) override { cuda::norm_act_forward(launch_, a); }
  void norm_act_backward(const NormActBackward& a) override { cuda::norm_act_backward(launch_, a); }

  void max_pool_forward(const MaxPoolForward& a) override { cuda::max_pool_forward(launch_, a); }
  void max_pool_backward(const MaxPoolBackward& a) override { cuda::max_pool_backward(launch_, a); }
  void avg_pool_forward(const AvgPoolForward& a) override { cuda::avg_pool_forward(launch_, a); }
  void avg_pool_backward(const AvgPoolBackward& a) override { cuda::avg_pool_backward(launch_, a); }
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
  void ema_update(const EmaUpdate& a) override { cuda::ema_update(launch_, a); }

 private:
  cuda::ConvCalls<cuda::HostLaunch, cuda::HostConvRunner> convolutions() { return {launch_, cudnn_, false, false}; }

  DeviceMemory memory_;
  DeviceLaunch launch_;
  std::unique_ptr<Backend> cpu_ = make_cpu_backend();
  cuda::HostConvRunner cudnn_{launch_, *cpu_};
};

}  // namespace

std::unique_ptr<Backend> make_emulated_backend(bool backwards, HostAccess access) {
  return std::make_unique<EmulatedBackend>(backwards, access);
}

}  // namespace frost::testing
