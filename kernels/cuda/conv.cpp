#include <chrono>
#include <cstdio>
#include <map>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/conv_engine.h"
#include "kernels/cuda/conv_graph.h"
#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/plan_store.h"
#include "kernels/cuda/roofline.h"
#include "kernels/out_of_memory.h"

namespace frost::cuda {
namespace {

// The heuristics' order is a guess: the fastest is nearly always among the first few.
constexpr std::size_t kContestants = 6;
constexpr int kTimedRuns = 3;
// Fused kernels that are compiled at run time cost 1 to 5 s each (measured, two cores). Once they have taken this long, a
// process makes do with the compiled ones and a pass of our own: a validation over many image sizes must not wait an hour.
constexpr double kMostCompileSeconds = 60;
constexpr double kSlow = 10;  // times the roofline: worth a line

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return address % 16 == 0 ? 16 : address % 8 == 0 ? 8 : 4;
}

/// Hands out places in Context::scratch before it is there.
struct Layout {
  std::size_t bytes = 0;
  std::size_t take(std::size_t size) {
    const std::size_t at = bytes;
    bytes += (size + 255) / 256 * 256;
    return at;
  }
};

std::size_t bytes_of(const Shape& shape, DType type) { return static_cast<std::size_t>(shape.elements()) * size_of(type); }

/// One operand of a plan: the caller's memory where it is packed and has the plan's channels and type, else a place in
/// scratch.
struct Operand {
  View inner;  // as cuDNN sees it; data set by place()
  bool staged;
  std::size_t at = 0;

  Operand(const ConstView& caller, const Shape& shape, DType type, Layout& layout)
      : inner{const_cast<void*>(caller.data), shape, type, shape.c} {
    staged = caller.shape != shape || !caller.packed() || caller.dtype != type ||
             (type != DType::f32 && alignment_of(caller.data) < 16);
    if (staged) at = layout.take(bytes_of(shape, type));
  }
  void place(char* scratch) {
    if (staged) inner.data = scratch + at;
  }
  int alignment() const { return staged ? 16 : alignment_of(inner.data); }
};

void check(const char* what, const ConvGeometry& g, const ConstView& x, const ConstView& y) {
  FROST_CHECK(x.shape.c % g.groups == 0 && y.shape.c % g.groups == 0, what, ": ", x.shape.c, " and ", y.shape.c,
              " channels do not divide into ", g.groups, " groups");
  FROST_CHECK(g.output(x.shape, y.shape.c) == y.shape, what, ": y is ", y.shape, ", x ", x.shape, " gives ",
              g.output(x.shape, y.shape.c));
}

DeviceRates rates_of(int device, const Context& context) {
  int clock = 0, memory_clock = 0, bus = 0;
  FROST_CUDA(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, device));
  FROST_CUDA(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, device));
  FROST_CUDA(cudaDeviceGetAttribute(&bus, cudaDevAttrGlobalMemoryBusWidth, device));
  return device_rates(context.capability, context.multiprocessors, clock * 1e3, memory_clock * 1e3, bus);
}

struct Contestant {
  EngineChoice choice;
  ConvPlan plan;
};

/// What is known of a key: one plan, or several that the next run compares. None: cuDNN cannot do it, or not soon enough.
struct Plans {
  std::vector<Contestant> contest;
  bool timed = false;

  std::size_t workspace() const {
    std::int64_t most = 0;
    for (const Contestant& c : contest) most = std::max(most, c.plan.workspace());
    return static_cast<std::size_t>(most);
  }
};

/// Filters in the compute type, by the caller's address and form: a layer's next values replace its last ones.
struct FilterKey {
  const float* data;
  Shape filters, padded;
  DType dtype;
  auto operator<=>(const FilterKey&) const = default;
};
struct KeptFilters {
  void* memory = nullptr;
  std::uint64_t stamp = 0;
  std::int64_t last_use = 0;
  unsigned long long capture = 0;  // the last capture that converted them; not 0: kept for good
};

}  // namespace

struct ConvEngine::State {
  State(Context& with, const CudaOptions& how)
      : context(with), options(how), rates(rates_of(with.device, with)), store(plan_folder(), cudnnGetVersion(), with.name) {
    FROST_CUDA(cudnnCreate(&handle));
    FROST_CUDA(cudnnSetStream(handle, context.compute));
    FROST_CUDA(cudaEventCreate(&before));
    FROST_CUDA(cudaEventCreate(&after));
  }
  ~State() {
    for (const auto& [key, entry] : kept) cudaFreeAsync(entry.memory, context.compute);
    if (after) cudaEventDestroy(after);
    if (before) cudaEventDestroy(before);
    if (handle) cudnnDestroy(handle);
  }

  Context& context;
  CudaOptions options;
  DeviceRates rates;
  PlanStore store;
  cudnnHandle_t handle = nullptr;
  cudaEvent_t before = nullptr, after = nullptr;
  std::map<ConvKey, Plans> plans;
  std::map<FilterKey, KeptFilters> kept;
  std::int64_t calls = 0, timed = 0;
  double compile_seconds = 0;
  unsigned long long capture = 0;  // of the call that is running; 0: none
  bool captured = false;           // ever: plans and filters may be in use by graphs

  ConvKey key(ConvPass pass, const ConvGeometry& geometry, const ConstView& x, const ConstView& y, DType type) const {
    return conv_key(pass, geometry, x.shape, y.shape, type, options.tf32, options.deterministic);
  }
  void begin();
  Plans& find(const ConvKey& key);
  std::optional<ConvPlan> make(const ConvGraph& graph, const Candidate& candidate);
  double time(const ConvPlan& plan, const ConvPointers& pointers, void* workspace);
  void run(const ConvKey& key, Plans& plans, const ConvPointers& pointers, void* workspace);
  void settle(const ConvKey& key, Plans& plans, const ConvPointers& pointers, void* workspace);
  void watch(const ConvKey& key, const EngineChoice& choice, double seconds) const;
  void* filters(const Filters& filters, const ConvKey& key, const Shape& shape, void* scratch);
};

void ConvEngine::State::begin() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  FROST_CUDA(cudaStreamGetCaptureInfo(context.compute, &status, &capture));
  if (status != cudaStreamCaptureStatusActive) capture = 0;
  captured |= capture != 0;
  ++calls;
}

std::optional<ConvPlan> ConvEngine::State::make(const ConvGraph& graph, const Candidate& candidate) {
  const auto start = std::chrono::steady_clock::now();
  if (candidate.compiled_at_run_time && compile_seconds == 0)
    std::fprintf(stderr, "frost: cuDNN compiles fused kernels for %s: once for each shape, the choice is kept in %s\n",
                 context.name.c_str(), store.path().c_str());
  auto plan = graph.plan(candidate);
  if (candidate.compiled_at_run_time) compile_seconds += seconds_since(start);
  return plan;
}

Plans& ConvEngine::State::find(const ConvKey& key) {
  if (const auto it = plans.find(key); it != plans.end()) return it->second;
  // Multi-scale training and validation by aspect ratio meet ever new sizes.
  constexpr std::size_t kMostPlans = 16384;
  if (plans.size() == kMostPlans && !captured) {
    FROST_CUDA(cudaStreamSynchronize(context.compute));
    plans.clear();
  }
  Plans found;
  const ConvGraph graph(key, {.handle = handle});
  // With --deterministic the result must not depend on the seconds that were left.
  const auto affordable = [&](const Candidate& candidate) {
    return !candidate.compiled_at_run_time || (!options.deterministic && compile_seconds < kMostCompileSeconds);
  };
  // Without timing, what cuDNN names first is the choice: the same on every machine of a kind.
  if (!options.deterministic)
    if (const auto known = store.find(key))
      if (auto candidate = graph.candidate(known->choice); candidate && affordable(*candidate))
        if (auto plan = make(graph, *candidate)) {
          found.contest.push_back({known->choice, std::move(*plan)});
          found.timed = true;
        }
  if (found.contest.empty()) {
    const std::int64_t roomy = static_cast<std::int64_t>(context.memory / 8);
    const std::size_t wanted = options.deterministic ? 1 : kContestants;
    constexpr std::int64_t kLooked = 64;
    const auto candidates = graph.candidates(kLooked);
    const auto enter = [&](const Candidate& candidate) {
      if (auto plan = make(graph, candidate)) found.contest.push_back({candidate.choice, std::move(*plan)});
    };
    for (const Candidate& candidate : candidates) {
      if (found.contest.size() == wanted) break;
      if (candidate.workspace > roomy) continue;
      // Configurations of one fused kernel differ little: one is worth the wait.
      if (candidate.compiled_at_run_time && (!found.contest.empty() || !affordable(candidate))) continue;
      enter(candidate);
    }
    if (found.contest.empty() && !key.bias) {  // anything that works is better than nothing
      for (const Candidate& candidate : candidates)
        if (found.contest.empty()) enter(candidate);
      FROST_CHECK(!found.contest.empty(), "cuDNN ", cudnnGetVersion(), " has no engine on ", context.name, " for ", key);
    }
  }
  return plans.emplace(key, std::move(found)).first->second;
}

double ConvEngine::State::time(const ConvPlan& plan, const ConvPointers& pointers, void* workspace) {
  plan.run(handle, pointers, workspace);  // loads its code
  FROST_CUDA(cudaEventRecord(before, context.compute));
  for (int i = 0; i < kTimedRuns; ++i) plan.run(handle, pointers, workspace);
  FROST_CUDA(cudaEventRecord(after, context.compute));
  FROST_CUDA(cudaEventSynchronize(after));
  float milliseconds = 0;
  FROST_CUDA(cudaEventElapsedTime(&milliseconds, before, after));
  return milliseconds * 1e-3 / kTimedRuns;
}

void ConvEngine::State::watch(const ConvKey& key, const EngineChoice& choice, double seconds) const {
  const auto [flops, bytes] = cost(key);
  const double limit = roofline_seconds(rates, key.dtype, key.tf32, flops, bytes);
  if (seconds > kSlow * limit)
    std::fprintf(stderr, "frost: slow convolution: %s takes %.0f us, %.0f times its limit of %.0f us (cuDNN engine %s)\n",
                 detail::join(key).c_str(), seconds * 1e6, seconds / limit, limit * 1e6, to_text(choice).c_str());
}

/// Times the contestants on the call's own tensors and keeps the fastest; each leaves a full result behind.
void ConvEngine::State::settle(const ConvKey& key, Plans& p, const ConvPointers& pointers, void* workspace) {
  std::size_t best = 0;
  double fastest = 0;
  for (std::size_t i = 0; i < p.contest.size(); ++i) {
    const double seconds = time(p.contest[i].plan, pointers, workspace);
    if (i == 0 || seconds < fastest) best = i, fastest = seconds;
  }
  Contestant winner = std::move(p.contest[best]);
  p.contest.clear();
  p.contest.push_back(std::move(winner));
  p.timed = true;
  ++timed;
  if (!options.deterministic) store.put(key, {p.contest[0].choice, fastest * 1e6});
  watch(key, p.contest[0].choice, fastest);
}

void ConvEngine::State::run(const ConvKey& key, Plans& p, const ConvPointers& pointers, void* workspace) {
  if (capture) {
    p.contest.resize(1);  // for good: the captured work holds on to its plan
    p.timed = true;
  } else if (!p.timed) {
    settle(key, p, pointers, workspace);
  }
  p.contest[0].plan.run(handle, pointers, workspace);
}

/// The filters as the plan wants them. `scratch`: room for them, used where nothing can be kept.
void* ConvEngine::State::filters(const Filters& filters, const ConvKey& key, const Shape& shape, void* scratch) {
  const Shape padded = key.filters();
  const auto convert = [&](void* to) {
    queue_pack(context, packed_view(filters.data, shape), packed_view(to, padded, key.dtype));
    return to;
  };
  if (filters.stamp == 0) return convert(scratch);
  auto it = kept.find({filters.data, shape, padded, key.dtype});
  if (it == kept.end()) {
    if (capture) return convert(scratch);
    // Filters of models that are gone (or at rest for thousands of convolutions) must not pile up. Freed in the stream's
    // order: what is queued still reads them.
    constexpr std::int64_t kRest = 8192;
    std::erase_if(kept, [&](const auto& item) {
      const bool old = item.second.capture == 0 && calls - item.second.last_use > kRest;
      if (old) cudaFreeAsync(item.second.memory, context.compute);
      return old;
    });
    KeptFilters fresh;
    const std::size_t bytes = bytes_of(padded, key.dtype);
    if (const cudaError_t status = cudaMallocAsync(&fresh.memory, bytes, context.compute);
        status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      throw OutOfMemory("out of memory on " + context.name + ": " + std::to_string(bytes) + " bytes of filters asked for",
                        bytes);
    } else {
      FROST_CUDA(status);
    }
    it = kept.emplace(FilterKey{filters.data, shape, padded, key.dtype}, fresh).first;
  }
  KeptFilters& entry = it->second;
  entry.last_use = calls;
  // What a captured graph converts changes whenever it is replayed, under a stamp that nobody tells us: outside of the
  // capture in which they were made, filters that any graph has used are made again.
  const bool current = entry.stamp == filters.stamp && entry.capture == capture;
  if (capture) entry.capture = capture;
  if (!current) convert(entry.memory);
  entry.stamp = filters.stamp;
  return entry.memory;
}

ConvEngine::ConvEngine(Context& context, const CudaOptions& options) : state_(std::make_unique<State>(context, options)) {}
ConvEngine::~ConvEngine() = default;

ConvEngine::Counters ConvEngine::counters() const {
  Counters counters{.plans = static_cast<std::int64_t>(state_->plans.size()), .timed = state_->timed};
  for (const auto& [key, entry] : state_->kept)
    counters.filter_bytes += static_cast<std::int64_t>(bytes_of(key.padded, key.dtype));
  return counters;
}

namespace {

/// The caller's filters, (out, rows, columns, in channels of a group).
Shape filter_shape(const ConvGeometry& g, const ConstView& x, const ConstView& y) {
  return {y.shape.c, g.kernel_h, g.kernel_w, x.shape.c / g.groups};
}

/// f32 filters that need no padding are read where they lie.
bool as_they_lie(const ConvKey& key, const Shape& filters) { return key.dtype == DType::f32 && key.filters() == filters; }

}  // namespace

void ConvEngine::forward(const ConvForward& a) {
  check("conv2d", a.geometry, a.x, a.y);
  if (a.y.shape.elements() == 0) return;
  State& s = *state_;
  s.begin();
  ConvKey key = s.key(ConvPass::forward, a.geometry, a.x, a.y, a.x.dtype);
  const Shape shape = filter_shape(a.geometry, a.x, a.y);
  Layout layout;
  Operand x(a.x, key.x, key.dtype, layout), y(a.y, key.y, key.dtype, layout);
  const bool lie = as_they_lie(key, shape), activated = a.activation.kind != ActivationKind::identity;
  key.alignment = std::min({x.alignment(), y.alignment(), lie ? alignment_of(a.weight.data) : 16});

  // A result that our kernel has to carry home gets its bias and activation on the way.
  Plans* plans = nullptr;
  if (a.bias && !y.staged && fuses(a.activation)) {
    ConvKey fused = key;
    fused.bias = true;
    fused.activation.kind = a.activation.kind;
    if (a.activation.kind == ActivationKind::leaky_relu) fused.activation.slope = a.activation.slope;
    plans = &s.find(fused);
    if (!plans->contest.empty()) key = fused;
  }
  if (!key.bias) plans = &s.find(key);

  const std::size_t filters_at = layout.take(lie ? 0 : bytes_of(key.filters(), key.dtype));
  const bool bias_lies = key.bias && bias_type(key) == DType::f32 && alignment_of(a.bias) >= key.alignment;
  const std::size_t bias_at = layout.take(key.bias && !bias_lies ? bytes_of({1, 1, 1, key.y.c}, bias_type(key)) : 0);
  const std::size_t workspace_at = layout.take(plans->workspace());
  char* base = static_cast<char*>(s.context.scratch(layout.bytes));
  x.place(base);
  y.place(base);
  if (x.staged) queue_pack(s.context, a.x, x.inner);
  ConvPointers pointers{.x = x.inner.data, .y = y.inner.data};
  pointers.filters = lie ? const_cast<float*>(a.weight.data) : s.filters(a.weight, key, shape, base + filters_at);
  if (key.bias) {
    pointers.bias = bias_lies ? const_cast<float*>(a.bias) : static_cast<void*>(base + bias_at);
    const Shape channels{1, 1, 1, a.y.shape.c};
    if (!bias_lies)
      queue_pack(s.context, packed_view(a.bias, channels), packed_view(pointers.bias, channels, bias_type(key)));
  }
  s.run(key, *plans, pointers, base + workspace_at);
  if (y.staged || (!key.bias && (a.bias || activated))) queue_deliver(s.context, y.inner, a.bias, a.activation, a.y);
}

void ConvEngine::backward_data(const ConvBackwardData& a) {
  check("conv2d backward", a.geometry, a.dx, a.dy);
  if (a.dx.shape.elements() == 0) return;
  State& s = *state_;
  s.begin();
  ConvKey key = s.key(ConvPass::backward_data, a.geometry, a.dx, a.dy, a.dx.dtype);
  const Shape shape = filter_shape(a.geometry, a.dx, a.dy);
  Layout layout;
  Operand dx(a.dx, key.x, key.dtype, layout), dy(a.dy, key.y, key.dtype, layout);
  const bool lie = as_they_lie(key, shape);
  key.alignment = std::min({dx.alignment(), dy.alignment(), lie ? alignment_of(a.weight.data) : 16});
  Plans& plans = s.find(key);
  const std::size_t filters_at = layout.take(lie ? 0 : bytes_of(key.filters(), key.dtype));
  const std::size_t workspace_at = layout.take(plans.workspace());
  char* base = static_cast<char*>(s.context.scratch(layout.bytes));
  dx.place(base);
  dy.place(base);
  if (dy.staged) queue_pack(s.context, a.dy, dy.inner);
  ConvPointers pointers{.x = dx.inner.data, .y = dy.inner.data};
  pointers.filters = lie ? const_cast<float*>(a.weight.data) : s.filters(a.weight, key, shape, base + filters_at);
  s.run(key, plans, pointers, base + workspace_at);
  if (dx.staged) queue_deliver(s.context, dx.inner, nullptr, {}, a.dx);
}

/// cuDNN has no engine with f32 gradients of 16-bit tensors: they come in the 16-bit type and join the f32 ones here. With
/// f16 and a loss scale they may overflow to infinity, which stays what it is on the way to the scaler's check.
void ConvEngine::backward_weight(const ConvBackwardWeight& a) {
  check("conv2d backward", a.geometry, a.x, a.dy);
  State& s = *state_;
  s.begin();
  ConvKey key = s.key(ConvPass::backward_weight, a.geometry, a.x, a.dy, a.x.dtype);
  const Shape shape = filter_shape(a.geometry, a.x, a.dy), padded = key.filters();
  if (a.dy.shape.elements() == 0) {
    if (a.accumulate) return;
    FROST_CUDA(cudaMemsetAsync(a.dweight, 0, bytes_of(shape, DType::f32), s.context.compute));
    if (a.dbias) FROST_CUDA(cudaMemsetAsync(a.dbias, 0, bytes_of({1, 1, 1, a.dy.shape.c}, DType::f32), s.context.compute));
    return;
  }
  Layout layout;
  Operand x(a.x, key.x, key.dtype, layout), dy(a.dy, key.y, key.dtype, layout);
  const bool direct = as_they_lie(key, shape) && !a.accumulate;
  key.alignment = std::min({x.alignment(), dy.alignment(), direct ? alignment_of(a.dweight) : 16});
  Plans& plans = s.find(key);
  const std::size_t dweight_at = layout.take(direct ? 0 : bytes_of(padded, key.dtype));
  const std::int64_t stripes = a.dbias ? stripe_count(a.dy.shape.pixels()) : 0;
  const std::size_t sums_at = layout.take(bytes_of({1, 1, stripes, a.dy.shape.c}, DType::f32));
  const std::size_t workspace_at = layout.take(plans.workspace());
  char* base = static_cast<char*>(s.context.scratch(layout.bytes));
  x.place(base);
  dy.place(base);
  if (x.staged) queue_pack(s.context, a.x, x.inner);
  if (dy.staged) queue_pack(s.context, a.dy, dy.inner);
  void* dweight = direct ? static_cast<void*>(a.dweight) : base + dweight_at;
  s.run(key, plans, {.x = x.inner.data, .y = dy.inner.data, .filters = dweight}, base + workspace_at);
  if (!direct)
    queue_deliver_filters(s.context, packed_view(dweight, padded, key.dtype), packed_view(a.dweight, shape), a.accumulate);
  if (a.dbias) queue_sums(s.context, a.dy, reinterpret_cast<float*>(base + sums_at), a.dbias, a.accumulate);
}

void CudaBackend::conv_forward(const ConvForward& a) { conv_->forward(a); }
void CudaBackend::conv_backward_data(const ConvBackwardData& a) { conv_->backward_data(a); }
void CudaBackend::conv_backward_weight(const ConvBackwardWeight& a) { conv_->backward_weight(a); }

}  // namespace frost::cuda
