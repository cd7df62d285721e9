#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/cuda/convolution/conv_call.h"
#include "kernels/cuda/convolution/conv_engine.h"
#include "kernels/cuda/convolution/conv_graph.h"
#include "kernels/cuda/convolution/filter_cache.h"
#include "kernels/cuda/convolution/roofline.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels/kernel_launch.cuh"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/plan_store.h"

namespace frost::cuda {
namespace {

// The heuristics' order is a guess: the fastest is nearly always among the first few.
constexpr std::size_t kContestants = 6;
constexpr int kTimedRuns = 3;
// Fused kernels that cuDNN compiles for a shape cost 1 to 5 s each (measured, two cores); a process spends no more than
// this on them and then uses the other engines and a pass of our own. They are stored on disk for the next process.
constexpr double kMostCompileSeconds = 20;
constexpr double kSlow = 10;  // times the roofline: then a line is printed
// Engines that need more copy whole tensors; we would keep that memory until the end.
constexpr std::int64_t kMostWorkspace = 256 << 20;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

DeviceRates rates_of(const Context& context) {
  int clock = 0, memory_clock = 0, bus = 0;
  FROST_CUDA(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, context.device));
  FROST_CUDA(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, context.device));
  FROST_CUDA(cudaDeviceGetAttribute(&bus, cudaDevAttrGlobalMemoryBusWidth, context.device));
  return device_rates(context.capability, context.multiprocessors, clock * 1e3, memory_clock * 1e3, bus);
}

struct Contestant {
  EngineChoice choice;
  std::shared_ptr<const ConvPlan> plan;
};

/// What is known of a key: one plan, or several that the next run compares. None: cuDNN cannot do it, or not soon enough.
struct Plans {
  std::vector<Contestant> contest;
  bool timed = false;

  std::size_t workspace() const {
    std::int64_t most = 0;
    for (const Contestant& c : contest) most = std::max(most, c.plan->workspace());
    return static_cast<std::size_t>(most);
  }
};

}  // namespace

struct ConvEngine::State {
  State(Context& with, const CudaOptions& how)
      : context(with),
        launch(with),
        options(how),
        rates(rates_of(with)),
        store(plan_folder(), cudnnGetVersion(), with.name) {
    FROST_CUDA(cudnnCreate(&handle));
    FROST_CUDA(cudnnSetStream(handle, context.compute));
    FROST_CUDA(cudaEventCreate(&before));
    FROST_CUDA(cudaEventCreate(&after));
  }
  ~State() {
    if (after) cudaEventDestroy(after);
    if (before) cudaEventDestroy(before);
    plans.clear();  // before the handle that they were made with
    if (handle) cudnnDestroy(handle);
  }

  Context& context;
  Launch launch;
  CudaOptions options;
  DeviceRates rates;
  PlanStore store;
  cudnnHandle_t handle = nullptr;
  cudaEvent_t before = nullptr, after = nullptr;
  std::map<ConvKey, Plans> plans;
  FilterCache kept;
  std::int64_t compiled = 0;
  double compile_seconds = 0;
  unsigned long long capture = 0;  // of the call that is running; 0: none

  ConvCalls<Launch, State> call();

  // what ConvCalls asks for
  bool offers(const ConvKey& fused) { return !find(fused).contest.empty(); }
  std::size_t workspace(const ConvKey& key) { return find(key).workspace(); }
  void run(const ConvKey& key, const ConvPointers& pointers, void* workspace);
  void* filters(const Filters& filters, const Shape& shape, const ConvKey& key, void* room) {
    return kept.find(launch, filters, shape, key, room);
  }

  Plans& find(const ConvKey& key);
  std::optional<ConvPlan> make(const ConvKey& key, const ConvGraph& graph, const Candidate& candidate);
  double time(const ConvPlan& plan, const ConvPointers& pointers, void* workspace);
  void settle(const ConvKey& key, Plans& plans, const ConvPointers& pointers, void* workspace);
  void watch(const ConvKey& key, const EngineChoice& choice, double seconds) const;
};

/// Begins a call.
ConvCalls<Launch, ConvEngine::State> ConvEngine::State::call() {
  context.make_current();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  FROST_CUDA(cudaStreamGetCaptureInfo(context.compute, &status, &capture));
  if (status != cudaStreamCaptureStatusActive) capture = 0;
  kept.begin_call(capture);
  return {launch, *this, options.tf32, options.deterministic};
}

std::optional<ConvPlan> ConvEngine::State::make(const ConvKey& key, const ConvGraph& graph, const Candidate& candidate) {
  if (!candidate.compiled_at_run_time) return graph.plan(candidate);
  const auto start = std::chrono::steady_clock::now();
  std::optional<ConvPlan> plan;
  if (const auto kept = store.compiled(key)) plan = graph.plan(*kept);
  if (!plan) {
    if (compiled++ == 0)
      std::fprintf(stderr, "frost: cuDNN compiles fused convolutions, at most %.0f s in a run; they are kept in %s\n",
                   kMostCompileSeconds, store.path().parent_path().c_str());
    plan = graph.plan(candidate);
    if (plan) try {
        store.put_compiled(key, plan->serialized());
      } catch (const Error&) {  // an engine that cuDNN cannot write down is compiled again in the next run
      }
  }
  compile_seconds += seconds_since(start);
  return plan;
}

Plans& ConvEngine::State::find(const ConvKey& key) {
  if (const auto it = plans.find(key); it != plans.end()) return it->second;
  // Multi-scale training and validation by aspect ratio bring new sizes again and again.
  constexpr std::size_t kMostPlans = 16384;
  if (plans.size() >= kMostPlans && !capture) {
    FROST_CUDA(cudaStreamSynchronize(context.compute));
    plans.clear();
  }
  Plans found;
  const ConvGraph graph(key, {.handle = handle});
  // With --deterministic the result must not depend on the remaining seconds.
  const auto affordable = [&](const Candidate& candidate) {
    return !candidate.compiled_at_run_time || (!options.deterministic && compile_seconds < kMostCompileSeconds);
  };
  // Without timing, the first that runs is the choice: the same on every machine of a kind.
  if (!options.deterministic)
    if (const auto known = store.find(key))
      if (auto candidate = graph.candidate(known->choice); candidate && affordable(*candidate))
        if (auto plan = make(key, graph, *candidate)) {
          found.contest.push_back({known->choice, std::make_shared<ConvPlan>(std::move(*plan))});
          found.timed = true;
          watch(key, known->choice, known->microseconds * 1e-6);
        }
  if (found.contest.empty()) {
    constexpr std::int64_t kLooked = 64;
    const auto candidates = graph.candidates(kLooked);
    const auto enter = [&](const Candidate& candidate) {
      if (auto plan = make(key, graph, candidate))
        found.contest.push_back({candidate.choice, std::make_shared<ConvPlan>(std::move(*plan))});
    };
    for (const Candidate& candidate : candidates) {
      if (found.contest.size() == kContestants) break;
      if (candidate.workspace > kMostWorkspace) continue;
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

/// Times the contestants on the call's own tensors and keeps the fastest (--deterministic: the first); each leaves a full
/// result behind. Engines that could be built and then do not run are no contestants.
void ConvEngine::State::settle(const ConvKey& key, Plans& p, const ConvPointers& pointers, void* workspace) {
  std::optional<std::size_t> best;
  double fastest = 0;
  std::exception_ptr failure;
  for (std::size_t i = 0; i < p.contest.size() && !(best && options.deterministic); ++i) try {
      const double seconds = time(*p.contest[i].plan, pointers, workspace);
      if (!best || seconds < fastest) best = i, fastest = seconds;
    } catch (const Error&) {
      if (!failure) failure = std::current_exception();
    }
  if (!best) std::rethrow_exception(failure);
  Contestant winner = std::move(p.contest[*best]);
  p.contest.clear();
  p.contest.push_back(std::move(winner));
  p.timed = true;
  if (!options.deterministic) store.put(key, {p.contest[0].choice, fastest * 1e6});
  watch(key, p.contest[0].choice, fastest);
}

void ConvEngine::State::run(const ConvKey& key, const ConvPointers& pointers, void* workspace) {
  Plans& p = find(key);
  if (capture) {
    p.contest.resize(1);  // nothing can be timed now
    p.timed = true;
    context.captured_uses(p.contest[0].plan);
  } else if (!p.timed) {
    settle(key, p, pointers, workspace);
  }
  p.contest[0].plan->run(handle, pointers, workspace);
}

ConvEngine::ConvEngine(Context& context, const CudaOptions& options) : state_(std::make_unique<State>(context, options)) {}
ConvEngine::~ConvEngine() = default;
void ConvEngine::forget() { state_->kept.clear(); }

void ConvEngine::forward(const ConvForward& a) { state_->call().forward(a); }
void ConvEngine::backward_data(const ConvBackwardData& a) { state_->call().backward_data(a); }
void ConvEngine::backward_weight(const ConvBackwardWeight& a) { state_->call().backward_weight(a); }

void CudaBackend::conv_forward(const ConvForward& a) { conv_->forward(a); }
void CudaBackend::conv_backward_data(const ConvBackwardData& a) { conv_->backward_data(a); }
void CudaBackend::conv_backward_weight(const ConvBackwardWeight& a) { conv_->backward_weight(a); }

}  // namespace frost::cuda
