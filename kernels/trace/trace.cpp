#include "kernels/trace/trace.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <type_traits>
#include <utility>

namespace frost {

const char* name_of(Primitive primitive) {
  static constexpr std::array kNames{"upload",
                                     "download",
                                     "zero",
                                     "conv_forward",
                                     "conv_backward_data",
                                     "conv_backward_weight",
                                     "linear_forward",
                                     "linear_backward",
                                     "batch_statistics",
                                     "norm_act_forward",
                                     "norm_act_backward",
                                     "max_pool_forward",
                                     "max_pool_backward",
                                     "avg_pool_forward",
                                     "avg_pool_backward",
                                     "adaptive_avg_pool_forward",
                                     "adaptive_avg_pool_backward",
                                     "resize_forward",
                                     "resize_backward",
                                     "copy",
                                     "add",
                                     "mul_forward",
                                     "mul_backward",
                                     "activation_forward",
                                     "activation_backward",
                                     "zero_pad_forward",
                                     "zero_pad_backward",
                                     "space_to_depth",
                                     "depth_to_space",
                                     "normalize_image",
                                     "dropout",
                                     "softmax_forward",
                                     "softmax_backward",
                                     "cross_entropy",
                                     "detect_loss",
                                     "detect_decode",
                                     "nms",
                                     "sum_of_squares",
                                     "prepare_step",
                                     "sgd_step",
                                     "adam_step",
                                     "ema_update"};
  static_assert(kNames.size() == static_cast<std::size_t>(Primitive::ema_update) + 1);
  return kNames[static_cast<std::size_t>(primitive)];
}

namespace {

/// Visits everything that a primitive reads and writes: counts bytes, builds the key and, where `memory` is given, moves
/// every operand there. Operands that share an address still share it afterwards.
class Operands {
 public:
  explicit Operands(PrimitiveCall& call) : call_(call) {}
  Operands(PrimitiveCall& call, const Backend& backend, const PrimitiveCall::Memory& memory)
      : call_(call), backend_(&backend), memory_(&memory) {}

  template <class V>
  void view(V& v) {
    if (!v) return number(0);
    for (const std::int64_t n : {v.shape.n, v.shape.h, v.shape.w, v.shape.c, v.pitch, static_cast<std::int64_t>(v.dtype)})
      number(n);
    call_.bytes += v.shape.elements() * static_cast<std::int64_t>(size_of(v.dtype));
    v.data = moved(v.data, v.shape.pixels() * v.pitch * static_cast<std::int64_t>(size_of(v.dtype)));
  }
  template <class T>
  void values(T*& data, std::int64_t count) {
    number(data ? count : 0);
    if (!data) return;
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    call_.bytes += bytes;
    data = static_cast<T*>(moved(data, bytes));
  }
  template <class... N>
  void numbers(N... n) {
    (number(static_cast<std::int64_t>(n)), ...);
  }
  void geometry(const ConvGeometry& g) {
    numbers(g.kernel_h, g.kernel_w, g.stride_h, g.stride_w, g.pad_h, g.pad_w, g.dilation_h, g.dilation_w, g.groups);
  }
  void window(const PoolGeometry& g) { numbers(g.kernel, g.stride, g.pad, g.ceil_mode); }
  void workspace(void*& data, std::size_t (Backend::*bytes)(const DetectLoss&) const, const DetectLoss& args) {
    if (data && backend_) data = (*memory_)((backend_->*bytes)(args));
  }
  PrimitiveCall& call() { return call_; }

 private:
  void number(std::int64_t n) { call_.key.push_back(n); }
  void* moved(const void* data, std::int64_t bytes) {
    if (!memory_) return const_cast<void*>(data);
    void*& place = places_[{data, bytes}];
    if (!place) place = (*memory_)(static_cast<std::size_t>(bytes));
    return place;
  }

  PrimitiveCall& call_;
  const Backend* backend_ = nullptr;
  const PrimitiveCall::Memory* memory_ = nullptr;
  std::map<std::pair<const void*, std::int64_t>, void*> places_;
};

// One function for each argument struct: what the primitive touches, and its multiply-adds.

std::int64_t filter_size(const ConvGeometry& g, std::int64_t in_channels) {
  return g.kernel_h * g.kernel_w * (in_channels / g.groups);
}
/// Two operations for each of `values` times `each`. At most 2^50 a call (years of work): sums of calls stay in range.
std::int64_t operations(std::int64_t values, std::int64_t each) {
  constexpr std::int64_t kMost = std::int64_t{1} << 50;
  std::int64_t count = 0;
  return __builtin_mul_overflow(values, each, &count) || count > kMost / 2 ? kMost : 2 * count;
}
void walk(Operands& o, ConvForward& a) {
  const std::int64_t filter = filter_size(a.geometry, a.x.shape.c);
  o.geometry(a.geometry);
  o.numbers(a.activation.kind);
  o.view(a.x);
  o.values(a.weight.data, a.y.shape.c * filter);
  o.values(a.bias, a.y.shape.c);
  o.view(a.y);
  o.call().forward_flops = operations(a.y.shape.elements(), filter);
}
void walk(Operands& o, ConvBackwardData& a) {
  const std::int64_t filter = filter_size(a.geometry, a.dx.shape.c);
  o.geometry(a.geometry);
  o.view(a.dy);
  o.values(a.weight.data, a.dy.shape.c * filter);
  o.view(a.dx);
  o.call().dgrad_flops = operations(a.dy.shape.elements(), filter);
}
void walk(Operands& o, ConvBackwardWeight& a) {
  const std::int64_t filter = filter_size(a.geometry, a.x.shape.c);
  o.geometry(a.geometry);
  o.numbers(a.accumulate);
  o.view(a.x);
  o.view(a.dy);
  o.values(a.dweight, a.dy.shape.c * filter);
  o.values(a.dbias, a.dy.shape.c);
  o.call().wgrad_flops = operations(a.dy.shape.elements(), filter);
}
void walk(Operands& o, LinearForward& a) {
  o.values(a.x, a.rows * a.in);
  o.values(a.weight, a.in * a.out);
  o.values(a.bias, a.out);
  o.values(a.y, a.rows * a.out);
  o.call().forward_flops = 2 * a.rows * a.in * a.out;
}
void walk(Operands& o, LinearBackward& a) {
  o.values(a.x, a.rows * a.in);
  o.values(a.weight, a.in * a.out);
  o.values(a.dy, a.rows * a.out);
  o.values(a.dx, a.rows * a.in);
  o.values(a.dweight, a.in * a.out);
  o.values(a.dbias, a.out);
  o.call().dgrad_flops = a.dx ? 2 * a.rows * a.in * a.out : 0;
  o.call().wgrad_flops = a.dweight ? 2 * a.rows * a.in * a.out : 0;
}
void walk(Operands& o, BatchStatistics& a) {
  const std::int64_t channels = a.x.shape.c;
  o.view(a.x);
  for (float** vector : {&a.mean, &a.rstd, &a.running_mean, &a.running_var}) o.values(*vector, channels);
}
void walk(Operands& o, NormActForward& a) {
  const std::int64_t channels = a.x.shape.c;
  o.numbers(a.activation.kind, a.order);
  o.view(a.x);
  for (const float** vector : {&a.weight, &a.bias, &a.mean, &a.rstd}) o.values(*vector, channels);
  o.view(a.residual);
  o.view(a.y);
}
void walk(Operands& o, NormActBackward& a) {
  const std::int64_t channels = a.x.shape.c;
  o.numbers(a.activation.kind, a.batch_statistics);
  o.view(a.x);
  o.view(a.dy);
  for (const float** vector : {&a.weight, &a.bias, &a.mean, &a.rstd}) o.values(*vector, channels);
  o.view(a.residual);
  o.view(a.dresidual);
  o.view(a.dx);
  o.values(a.dweight, channels);
  o.values(a.dbias, channels);
}
void walk(Operands& o, MaxPoolForward& a) {
  o.window(a.geometry);
  o.view(a.x);
  o.view(a.y);
  o.call().window_values = a.y.shape.elements() * a.geometry.kernel * a.geometry.kernel;
}
void walk(Operands& o, MaxPoolBackward& a) {
  o.window(a.geometry);
  o.view(a.x);
  o.view(a.dy);
  o.view(a.dx);
}
void walk(Operands& o, AvgPoolForward& a) {
  o.window(a.geometry);
  o.numbers(a.count_include_pad);
  o.view(a.x), o.view(a.y);
}
void walk(Operands& o, AvgPoolBackward& a) {
  o.window(a.geometry);
  o.numbers(a.count_include_pad);
  o.view(a.dy), o.view(a.dx);
}
void walk(Operands& o, AdaptiveAvgPoolForward& a) { o.view(a.x), o.view(a.y); }
void walk(Operands& o, AdaptiveAvgPoolBackward& a) { o.view(a.dy), o.view(a.dx); }
void walk(Operands& o, ResizeForward& a) { o.numbers(a.mode), o.view(a.x), o.view(a.y); }
void walk(Operands& o, ResizeBackward& a) { o.numbers(a.mode), o.view(a.dy), o.view(a.dx); }
void walk(Operands& o, CopyView& a) { o.view(a.x), o.view(a.y); }
void walk(Operands& o, AddForward& a) { o.view(a.a), o.view(a.b), o.view(a.y); }
void walk(Operands& o, MulForward& a) { o.view(a.a), o.view(a.b), o.view(a.y); }
void walk(Operands& o, MulBackward& a) { o.view(a.a), o.view(a.b), o.view(a.dy), o.view(a.da), o.view(a.db); }
void walk(Operands& o, ActivationForward& a) { o.numbers(a.activation.kind), o.view(a.x), o.view(a.y); }
void walk(Operands& o, ActivationBackward& a) {
  o.numbers(a.activation.kind);
  o.view(a.x);
  o.view(a.dy);
  o.view(a.dx);
}
void walk(Operands& o, ZeroPad& a) { o.numbers(a.left, a.right, a.top, a.bottom), o.view(a.x), o.view(a.y); }
void walk(Operands& o, SpaceToDepth& a) { o.view(a.x), o.view(a.y); }
void walk(Operands& o, DepthToSpace& a) { o.view(a.x), o.view(a.y); }
void walk(Operands& o, NormalizeImage& a) { o.view(a.x), o.view(a.y); }
void walk(Operands& o, Dropout& a) { o.values(a.step_seed, 1), o.view(a.x), o.view(a.y); }
void walk(Operands& o, SoftmaxForward& a) { o.numbers(a.log), o.view(a.x), o.view(a.y); }
void walk(Operands& o, SoftmaxBackward& a) { o.numbers(a.log), o.view(a.y), o.view(a.dy), o.view(a.dx); }
void walk(Operands& o, CrossEntropy& a) {
  o.values(a.logits, a.rows * a.classes);
  o.values(a.labels, a.rows);
  o.values(a.loss, 1);
  o.values(a.dlogits, a.rows * a.classes);
  o.values(a.grad_scale, 1);
}
void walk(Operands& o, DetectLoss& a) {
  o.numbers(a.classes, a.target_capacity);
  for (DetectLevel& level : a.levels) o.view(level.head);
  for (View& dhead : a.dheads) o.view(dhead);
  o.values(a.targets, a.target_capacity * 6);
  o.values(a.balance, static_cast<std::int64_t>(a.levels.size()));
  o.values(a.grad_scale, 1);
  o.values(a.result, kDetectLossResults);
  o.workspace(a.workspace, &Backend::detect_loss_workspace, a);
}
void walk(Operands& o, DetectDecode& a) {
  o.numbers(a.classes);
  for (DetectLevel& level : a.levels) o.view(level.head);
}
void walk(Operands& o, SumOfSquares& a) { o.values(a.values, a.count), o.values(a.state, 1); }
void walk(Operands& o, PrepareStep& a) { o.values(a.state, 1), o.values(a.settings, 1); }
void walk(Operands& o, SgdStep& a) {
  o.values(a.value, a.count);
  o.values(a.momentum_buffer, a.count);
  o.values(a.grad, a.count);
  o.values(a.mask, a.count);
  o.values(a.ema, a.count);
  o.values(a.state, 1), o.values(a.settings, 1);
}
void walk(Operands& o, AdamStep& a) {
  for (float** vector : {&a.value, &a.exp_avg, &a.exp_avg_sq, &a.ema}) o.values(*vector, a.count);
  o.values(a.grad, a.count);
  o.values(a.mask, a.count);
  o.values(a.state, 1), o.values(a.settings, 1);
}
void walk(Operands& o, EmaUpdate& a) {
  o.numbers(a.largest);
  o.values(a.items, a.item_count);  // the tensors' addresses are in the list: on other memory it is a list of empty ones
  o.values(a.state, 1);
  o.call().bytes += a.values * 2 * static_cast<std::int64_t>(sizeof(float));
}

/// Backends keep reordered filters under their version. Whether a call can reuse them is part of its cost: those of a
/// frozen layer do not change between steps.
template <class Args>
void refresh_filters(Args& args) {
  static std::uint64_t version = std::uint64_t{1} << 62;
  if constexpr (requires { args.weight.version; }) args.weight.version = ++version;
}

class TraceBackend final : public Backend {
 public:
  TraceBackend(Backend* inner, const Backend& like, CallObserver observer)
      : inner_(inner), like_(like), observer_(std::move(observer)) {}
  ~TraceBackend() override {
    for (const auto& [memory, bytes] : reserved_) munmap(memory, bytes);
  }

  bool is_meta() const { return !inner_; }
  std::string description() const override { return like_.description(); }
  bool supports(DType compute) const override { return like_.supports(compute); }

  void* allocate(std::size_t bytes) override {
    if (inner_) return inner_->allocate(bytes);
    void* memory = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    FROST_CHECK(memory != MAP_FAILED, "no address space for ", bytes, " bytes");
    reserved_[memory] = bytes;
    return memory;
  }
  void release(void* memory) noexcept override {
    if (inner_) return inner_->release(memory);
    const auto it = reserved_.find(memory);
    munmap(memory, it->second);
    reserved_.erase(it);
  }
  void upload(void* device, const void* host, std::size_t bytes) override {
    moved(Primitive::upload, bytes, [&] { inner_->upload(device, host, bytes); });
  }
  void download(void* host, const void* device, std::size_t bytes) override {
    if (!inner_) std::fill_n(static_cast<char*>(host), bytes, '\0');
    moved(Primitive::download, bytes, [&] { inner_->download(host, device, bytes); });
  }
  void zero(void* device, std::size_t bytes) override {
    moved(
        Primitive::zero, bytes, [&] { inner_->zero(device, bytes); },
        [bytes](Backend& backend, const PrimitiveCall::Memory& memory) {
          return [&backend, bytes, to = memory(bytes)] { backend.zero(to, bytes); };
        });
  }
  void synchronize() override {
    if (inner_) inner_->synchronize();
  }

  void conv_forward(const ConvForward& a) override { run(Primitive::conv_forward, &Backend::conv_forward, a); }
  void conv_backward_data(const ConvBackwardData& a) override {
    run(Primitive::conv_backward_data, &Backend::conv_backward_data, a);
  }
  void conv_backward_weight(const ConvBackwardWeight& a) override {
    run(Primitive::conv_backward_weight, &Backend::conv_backward_weight, a);
  }
  void linear_forward(const LinearForward& a) override { run(Primitive::linear_forward, &Backend::linear_forward, a); }
  void linear_backward(const LinearBackward& a) override { run(Primitive::linear_backward, &Backend::linear_backward, a); }

  void batch_statistics(const BatchStatistics& a) override {
    run(Primitive::batch_statistics, &Backend::batch_statistics, a);
  }
  void norm_act_forward(const NormActForward& a) override {
    run(Primitive::norm_act_forward, &Backend::norm_act_forward, a);
  }
  void norm_act_backward(const NormActBackward& a) override {
    run(Primitive::norm_act_backward, &Backend::norm_act_backward, a);
  }

  void max_pool_forward(const MaxPoolForward& a) override {
    run(Primitive::max_pool_forward, &Backend::max_pool_forward, a);
  }
  void max_pool_backward(const MaxPoolBackward& a) override {
    run(Primitive::max_pool_backward, &Backend::max_pool_backward, a);
  }
  void avg_pool_forward(const AvgPoolForward& a) override {
    run(Primitive::avg_pool_forward, &Backend::avg_pool_forward, a);
  }
  void avg_pool_backward(const AvgPoolBackward& a) override {
    run(Primitive::avg_pool_backward, &Backend::avg_pool_backward, a);
  }
  void adaptive_avg_pool_forward(const AdaptiveAvgPoolForward& a) override {
    run(Primitive::adaptive_avg_pool_forward, &Backend::adaptive_avg_pool_forward, a);
  }
  void adaptive_avg_pool_backward(const AdaptiveAvgPoolBackward& a) override {
    run(Primitive::adaptive_avg_pool_backward, &Backend::adaptive_avg_pool_backward, a);
  }
  void resize_forward(const ResizeForward& a) override { run(Primitive::resize_forward, &Backend::resize_forward, a); }
  void resize_backward(const ResizeBackward& a) override { run(Primitive::resize_backward, &Backend::resize_backward, a); }

  void copy(const CopyView& a) override { run(Primitive::copy, &Backend::copy, a); }
  void add(const AddForward& a) override { run(Primitive::add, &Backend::add, a); }
  void mul_forward(const MulForward& a) override { run(Primitive::mul_forward, &Backend::mul_forward, a); }
  void mul_backward(const MulBackward& a) override { run(Primitive::mul_backward, &Backend::mul_backward, a); }
  void activation_forward(const ActivationForward& a) override {
    run(Primitive::activation_forward, &Backend::activation_forward, a);
  }
  void activation_backward(const ActivationBackward& a) override {
    run(Primitive::activation_backward, &Backend::activation_backward, a);
  }
  void zero_pad_forward(const ZeroPad& a) override { run(Primitive::zero_pad_forward, &Backend::zero_pad_forward, a); }
  void zero_pad_backward(const ZeroPad& a) override { run(Primitive::zero_pad_backward, &Backend::zero_pad_backward, a); }
  void space_to_depth(const SpaceToDepth& a) override { run(Primitive::space_to_depth, &Backend::space_to_depth, a); }
  void depth_to_space(const DepthToSpace& a) override { run(Primitive::depth_to_space, &Backend::depth_to_space, a); }
  void normalize_image(const NormalizeImage& a) override { run(Primitive::normalize_image, &Backend::normalize_image, a); }
  void dropout(const Dropout& a) override { run(Primitive::dropout, &Backend::dropout, a); }
  void softmax_forward(const SoftmaxForward& a) override { run(Primitive::softmax_forward, &Backend::softmax_forward, a); }
  void softmax_backward(const SoftmaxBackward& a) override {
    run(Primitive::softmax_backward, &Backend::softmax_backward, a);
  }
  void cross_entropy(const CrossEntropy& a) override { run(Primitive::cross_entropy, &Backend::cross_entropy, a); }

  std::size_t detect_loss_workspace(const DetectLoss& a) const override { return like_.detect_loss_workspace(a); }
  void detect_loss(const DetectLoss& a) override { run(Primitive::detect_loss, &Backend::detect_loss, a); }
  DecodedRows detect_decode(const DetectDecode& a) override {
    DecodedRows rows;
    if (!a.levels.empty()) rows.counts.assign(static_cast<std::size_t>(a.levels[0].head.shape.n), 0);
    PrimitiveCall call = described(Primitive::detect_decode, a);
    timed(call, [&] { rows = inner_->detect_decode(a); });
    return rows;
  }
  std::vector<std::vector<Detection>> nms(const Nms& a) override {
    std::vector<std::vector<Detection>> kept(a.row_counts.size());
    PrimitiveCall call{.primitive = Primitive::nms, .key = a.row_counts};
    call.key.push_back(a.classes);
    timed(call, [&] { kept = inner_->nms(a); });
    return kept;
  }

  void sum_of_squares(const SumOfSquares& a) override { run(Primitive::sum_of_squares, &Backend::sum_of_squares, a); }
  void prepare_step(const PrepareStep& a) override { run(Primitive::prepare_step, &Backend::prepare_step, a); }
  void sgd_step(const SgdStep& a) override { run(Primitive::sgd_step, &Backend::sgd_step, a); }
  void adam_step(const AdamStep& a) override { run(Primitive::adam_step, &Backend::adam_step, a); }
  void ema_update(const EmaUpdate& a) override { run(Primitive::ema_update, &Backend::ema_update, a); }

 private:
  template <class Args>
  static PrimitiveCall described(Primitive primitive, const Args& args) {
    PrimitiveCall call{.primitive = primitive};
    call.key.push_back(static_cast<std::int64_t>(primitive));
    Args copy = args;
    Operands operands(call);
    walk(operands, copy);
    return call;
  }
  /// Runs the call if there is a device, and reports it.
  template <class Work>
  void timed(PrimitiveCall& call, const Work& work) {
    using Clock = std::chrono::steady_clock;
    if (inner_) {
      const auto start = Clock::now();
      work();
      inner_->synchronize();
      call.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    }
    if (observer_) observer_(call);
  }
  template <class Args>
  void run(Primitive primitive, void (Backend::*method)(const Args&), const Args& args) {
    PrimitiveCall call = described(primitive, args);
    bool fresh = false;
    if constexpr (requires { args.weight.version; }) {
      std::uint64_t& seen = versions_[{primitive, args.weight.data}];
      fresh = seen != args.weight.version || args.weight.version == 0;
      seen = args.weight.version;
      call.key.push_back(fresh);
    }
    if (!inner_)
      call.bind = [method, args, fresh](Backend& backend, const PrimitiveCall::Memory& memory) {
        PrimitiveCall unused{.primitive = Primitive::zero};
        auto moved = std::make_shared<Args>(args);
        Operands operands(unused, backend, memory);
        walk(operands, *moved);
        refresh_filters(*moved);
        return [&backend, method, moved, fresh] {
          if (fresh) refresh_filters(*moved);
          (backend.*method)(*moved);
        };
      };
    Backend* const inner = inner_;
    timed(call, [inner, method, &args] { (inner->*method)(args); });
  }
  template <class Work>
  void moved(Primitive primitive, std::size_t bytes, const Work& work,
             std::function<std::function<void()>(Backend&, const PrimitiveCall::Memory&)> bind = {}) {
    const auto count = static_cast<std::int64_t>(bytes);
    PrimitiveCall call{.primitive = primitive, .bytes = count, .key = {static_cast<std::int64_t>(primitive), count}};
    call.bind = std::move(bind);
    timed(call, work);
  }

  Backend* inner_;  // null: nothing runs
  const Backend& like_;
  CallObserver observer_;
  std::map<void*, std::size_t> reserved_;
  std::map<std::pair<Primitive, const void*>, std::uint64_t> versions_;  // of the filters last seen at an address
};

}  // namespace

std::unique_ptr<Backend> make_meta_backend(const Backend& like, CallObserver observer) {
  return std::make_unique<TraceBackend>(nullptr, like, std::move(observer));
}
bool is_meta(const Backend& backend) {
  const auto* trace = dynamic_cast<const TraceBackend*>(&backend);
  return trace && trace->is_meta();
}
std::unique_ptr<Backend> make_watched_backend(Backend& inner, CallObserver observer) {
  return std::make_unique<TraceBackend>(&inner, inner, std::move(observer));
}

}  // namespace frost
