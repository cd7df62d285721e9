#include <cstdlib>
#include <dnnl.hpp>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/cpu/conv_engine.h"
#include "kernels/cpu/cpu_backend.h"

namespace frost::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

enum class Pass : std::uint8_t { forward, backward_data, backward_weight };

/// Everything that decides which primitive runs and how its operands are described.
struct PlanKey {
  Pass pass;
  ConvGeometry geometry;
  Shape x, y;
  DType x_type, y_type;
  std::int64_t x_pitch, y_pitch;
  Activation activation;
  bool has_bias, accumulate;
  auto operator<=>(const PlanKey&) const = default;
};

memory::data_type dnnl_type(DType type) {
  switch (type) {
    case DType::f32:
      return memory::data_type::f32;
    case DType::bf16:
      return memory::data_type::bf16;
    default:
      fail("conv2d on the CPU works in f32 or bf16, not in ", name_of(type));
  }
}

/// Is a bf16 convolution faster with its operands widened to f32 on their way in and out? On Intel's cores without AMX it is
/// where the arithmetic outweighs the copies: vdpbf16ps has half the rate of an f32 multiply-add there. Measured on one such
/// core, ms in bf16 and widened, forward: 3x3 64->64 at 40x40 1.31 and .81, 1x1 128->64 at 40x40 .30 and .24, 1x1 64->64 at
/// 80x80 .61 and .60 (32 multiply-adds for each value moved: the threshold), 1x1 32->32 at 80x80 .16 and .20.
/// yolov5n at 320, batch 8, all three passes: 480 ms in bf16, 311 widened.
/// FROST_BF16=native or widened (environment) decides for every core, so that tests run both paths on one machine.
bool widening_pays(const PlanKey& k) {
  static const bool slow_bf16 = [] {
    const char* set = std::getenv("FROST_BF16");
    const std::string_view asked = set ? set : "";
    if (asked == "native" || asked == "widened") return asked == "widened";
    const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto amx = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
    return (isa & amx) != amx && __builtin_cpu_is("intel");
  }();
  const auto per_output = k.geometry.kernel_h * k.geometry.kernel_w * k.x.c / k.geometry.groups;
  return slow_bf16 && k.y.elements() * per_output >= 32 * (k.x.elements() + k.y.elements());
}

/// An activation tensor in the caller's memory.
memory::desc nhwc(const Shape& s, DType type, std::int64_t pitch) {
  return {{s.n, s.c, s.h, s.w}, dnnl_type(type), memory::dims{s.h * s.w * pitch, 1, s.w * pitch, pitch}};
}

memory::dims filter_dims(const PlanKey& k) {
  const auto& g = k.geometry;
  if (g.groups == 1) return {k.y.c, k.x.c, g.kernel_h, g.kernel_w};
  return {g.groups, k.y.c / g.groups, k.x.c / g.groups, g.kernel_h, g.kernel_w};
}

memory::desc filters(const PlanKey& k, DType type, Tag tag) { return {filter_dims(k), dnnl_type(type), tag}; }

Tag ohwi(const PlanKey& k) { return k.geometry.groups == 1 ? Tag::ohwi : Tag::gohwi; }

void append_activation(dnnl::primitive_attr& attr, const Activation& activation) {
  dnnl::post_ops ops;
  using dnnl::algorithm;
  switch (activation.kind) {
    case ActivationKind::identity:
      return;
    case ActivationKind::silu:
      ops.append_eltwise(1, algorithm::eltwise_swish, 1, 0);
      break;
    case ActivationKind::relu:
      ops.append_eltwise(1, algorithm::eltwise_relu, 0, 0);
      break;
    case ActivationKind::leaky_relu:
      ops.append_eltwise(1, algorithm::eltwise_relu, activation.slope, 0);
      break;
    case ActivationKind::hardswish:
      ops.append_eltwise(1, algorithm::eltwise_hardswish, 0, 0);
      break;
    case ActivationKind::sigmoid:
      ops.append_eltwise(1, algorithm::eltwise_logistic, 0, 0);
      break;
    case ActivationKind::mish:
      ops.append_eltwise(1, algorithm::eltwise_mish, 0, 0);
      break;
    case ActivationKind::relu6:
      ops.append_eltwise(1, algorithm::eltwise_clip, 0, 6);
      break;
    case ActivationKind::hardsigmoid:
      ops.append_eltwise(1, algorithm::eltwise_linear, 1.0f / 6, 0.5f);
      ops.append_eltwise(1, algorithm::eltwise_clip, 0, 1);
      break;
  }
  attr.set_post_ops(ops);
}

/// The chosen primitive and the layouts that it wants.
struct Choice {
  dnnl::primitive op;
  memory::desc x, y, weight, scratchpad;
  bool reference = true;  // oneDNN has only its slow plain loops for it
};

template <class Desc>
Choice choice_of(const Desc& pd, const memory::desc& x, const memory::desc& y, const memory::desc& weight) {
  return {dnnl::primitive(pd.get()),
          x,
          y,
          weight,
          pd.scratchpad_desc(),
          std::string_view(pd.impl_info_str()).starts_with("ref")};
}

/// Asks oneDNN for one pass with activations in `layout` and filters in `filter_layout`; empty where it has none.
std::optional<Choice> ask(const PlanKey& k, DType compute, Tag layout, Tag filter_layout, const dnnl::engine& engine) {
  const auto& g = k.geometry;
  const memory::dims stride{g.stride_h, g.stride_w}, pad{g.pad_h, g.pad_w};
  const memory::dims dilation{g.dilation_h - 1, g.dilation_w - 1};  // oneDNN counts the gaps
  const DType y_type = compute == DType::f32 ? DType::f32 : k.y_type;
  const memory::desc x({k.x.n, k.x.c, k.x.h, k.x.w}, dnnl_type(compute), layout);
  const memory::desc y({k.y.n, k.y.c, k.y.h, k.y.w}, dnnl_type(y_type), layout);
  const memory::desc weight = filters(k, compute, filter_layout);
  const memory::desc bias = k.has_bias ? memory::desc({k.y.c}, memory::data_type::f32, Tag::x) : memory::desc();
  const auto direct = dnnl::algorithm::convolution_direct;
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);

  if (k.pass == Pass::forward) {
    append_activation(attr, k.activation);
    const dnnl::convolution_forward::primitive_desc pd(
        {dnnl::prop_kind::forward_inference, direct, x, weight, bias, y, stride, dilation, pad, pad}, attr, engine, true);
    if (!pd) return {};
    return choice_of(pd, pd.src_desc(), pd.dst_desc(), pd.weights_desc());
  }
  // Backward primitives want a forward one as a hint; its filter layout does not bind theirs.
  const dnnl::convolution_forward::primitive_desc hint(
      {dnnl::prop_kind::forward_training, direct, x, weight, y, stride, dilation, pad, pad}, attr, engine, true);
  if (!hint) return {};
  if (k.pass == Pass::backward_data) {
    const dnnl::convolution_backward_data::primitive_desc pd({direct, x, weight, y, stride, dilation, pad, pad}, attr,
                                                             engine, hint, true);
    if (!pd) return {};
    return choice_of(pd, pd.diff_src_desc(), pd.diff_dst_desc(), pd.weights_desc());
  }
  const dnnl::convolution_backward_weights::primitive_desc pd(
      {direct, x, filters(k, DType::f32, filter_layout), bias, y, stride, dilation, pad, pad}, attr, engine, hint, true);
  if (!pd) return {};
  return choice_of(pd, pd.src_desc(), pd.diff_dst_desc(), pd.diff_weights_desc());
}

/// NHWC where oneDNN has a fast kernel for it (then nothing is reordered), else any layout with one, else wider values.
Choice choose(const PlanKey& k, const dnnl::engine& engine) {
  std::optional<Choice> slow;
  for (const DType compute : {widening_pays(k) ? DType::f32 : k.x_type, DType::f32})
    for (const Tag layout : {Tag::nhwc, Tag::any, Tag::nchw})
      for (const Tag filter_layout : {Tag::any, ohwi(k)}) {
        auto found = ask(k, compute, layout, filter_layout, engine);
        if (found && !found->reference) return *found;
        if (found && !slow) slow = found;
      }
  FROST_CHECK(slow, "oneDNN has no convolution of x ", k.x, " to y ", k.y, " with a ", k.geometry.kernel_h, "x",
              k.geometry.kernel_w, " kernel in ", k.geometry.groups, " groups");
  return *slow;
}

/// Assigns 64-byte aligned offsets in a buffer before it is allocated.
struct Layout {
  std::size_t bytes = 0;
  std::size_t take(std::size_t size) {
    const std::size_t at = bytes;
    bytes += (size + 63) / 64 * 64;
    return at;
  }
};

/// One operand: the caller's memory and the primitive's, which are the same where the layouts agree.
class Port {
 public:
  Port() = default;
  /// `add`: the operand is an output that is added to the caller's values.
  Port(const memory::desc& user, const memory::desc& inner, bool output, bool add, const dnnl::engine& engine,
       Layout& scratch)
      : user_(user, engine, nullptr), inner_(inner, engine, nullptr), output_(output) {
    if (user == inner && !add) return;
    staged_ = true;
    at_ = scratch.take(inner.get_size());
    dnnl::primitive_attr attr;
    if (add) {
      dnnl::post_ops ops;
      ops.append_sum(1.f);
      attr.set_post_ops(ops);
    }
    move_ = output ? dnnl::reorder(inner_, user_, attr) : dnnl::reorder(user_, inner_, attr);
  }
  void bind(const void* user, char* scratch) {
    user_.set_data_handle(const_cast<void*>(user));
    inner_.set_data_handle(staged_ ? scratch + at_ : const_cast<void*>(user));
  }
  void fetch(dnnl::stream& stream) {
    if (staged_ && !output_) move_.execute(stream, user_, inner_);
  }
  void deliver(dnnl::stream& stream) {
    if (staged_ && output_) move_.execute(stream, inner_, user_);
  }
  const memory& inner() const { return inner_; }

 private:
  memory user_, inner_;
  dnnl::reorder move_;
  std::size_t at_ = 0;
  bool output_ = false, staged_ = false;
};

struct Plan {
  dnnl::primitive op;
  Port x, y, dweight;       // dweight: backward_weight only
  memory bias, scratchpad;  // bias: the caller's in forward, in scratch in backward_weight
  memory filters, weight;   // OHWI f32, and as the primitive wants them: forward and backward_data only
  dnnl::reorder convert_filters;
  std::size_t weight_at = 0, bias_at = 0, scratchpad_at = 0, scratch_bytes = 0;
  std::unordered_map<int, memory> arguments;
};

/// Filters in a kernel's own order, by the caller's address: a layer's new values replace its old ones.
struct KeptFilters {
  memory weight;
  std::uint64_t version = 0;
  std::int64_t last_use = 0;
};

}  // namespace

struct ConvEngine::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<PlanKey, Plan> plans;
  std::multimap<const float*, KeptFilters> kept;
  std::vector<char> scratch;
  std::int64_t calls = 0, filter_reorders = 0;

  Plan& plan(const PlanKey& key);
  char* reserve(std::size_t bytes);
  const memory& weight_for(Plan& plan, const Filters& filters, char* base);
  void run(Plan& plan) { plan.op.execute(stream, plan.arguments); }
};

Plan& ConvEngine::State::plan(const PlanKey& key) {
  if (const auto it = plans.find(key); it != plans.end()) return it->second;
  // Multi-scale training brings new sizes again and again; a plan takes 20 to 150 kB (measured), mostly generated code.
  constexpr std::size_t kMostPlans = 4096;
  if (plans.size() == kMostPlans) plans.clear();
  const Choice choice = choose(key, engine);
  Plan plan;
  Layout layout;
  plan.op = choice.op;
  plan.x = Port(nhwc(key.x, key.x_type, key.x_pitch), choice.x, key.pass == Pass::backward_data, false, engine, layout);
  plan.y = Port(nhwc(key.y, key.y_type, key.y_pitch), choice.y, key.pass == Pass::forward, false, engine, layout);
  const memory::desc user_filters = filters(key, DType::f32, ohwi(key));
  if (key.pass == Pass::backward_weight) {
    plan.dweight = Port(user_filters, choice.weight, true, key.accumulate, engine, layout);
  } else {
    plan.filters = memory(user_filters, engine, nullptr);
    plan.weight = memory(choice.weight, engine, nullptr);
    plan.weight_at = layout.take(choice.weight.get_size());
    plan.convert_filters = dnnl::reorder(plan.filters, plan.weight);
  }
  if (key.has_bias) {
    plan.bias = memory({{key.y.c}, memory::data_type::f32, Tag::x}, engine, nullptr);
    plan.bias_at = layout.take(plan.bias.get_desc().get_size());
  }
  plan.scratchpad = memory(choice.scratchpad, engine, nullptr);
  plan.scratchpad_at = layout.take(choice.scratchpad.get_size());
  plan.scratch_bytes = layout.bytes;

  auto& arguments = plan.arguments;
  switch (key.pass) {
    case Pass::forward:
      arguments = {{DNNL_ARG_SRC, plan.x.inner()}, {DNNL_ARG_DST, plan.y.inner()}};
      if (key.has_bias) arguments[DNNL_ARG_BIAS] = plan.bias;
      break;
    case Pass::backward_data:
      arguments = {{DNNL_ARG_DIFF_SRC, plan.x.inner()}, {DNNL_ARG_DIFF_DST, plan.y.inner()}};
      break;
    case Pass::backward_weight:
      arguments = {{DNNL_ARG_SRC, plan.x.inner()},
                   {DNNL_ARG_DIFF_DST, plan.y.inner()},
                   {DNNL_ARG_DIFF_WEIGHTS, plan.dweight.inner()}};
      if (key.has_bias) arguments[DNNL_ARG_DIFF_BIAS] = plan.bias;
      break;
  }
  arguments[DNNL_ARG_SCRATCHPAD] = plan.scratchpad;
  return plans.emplace(key, std::move(plan)).first->second;
}

char* ConvEngine::State::reserve(std::size_t bytes) {
  constexpr std::size_t kAlign = 64;
  if (scratch.size() < bytes + kAlign) {
    scratch = {};  // the old one first: both together could be too much
    scratch.resize(bytes + kAlign);
  }
  return scratch.data() + (kAlign - reinterpret_cast<std::uintptr_t>(scratch.data()) % kAlign) % kAlign;
}

const memory& ConvEngine::State::weight_for(Plan& plan, const Filters& filters, char* base) {
  ++calls;
  const auto convert = [&](memory& to) {
    plan.filters.set_data_handle(const_cast<float*>(filters.data));
    plan.convert_filters.execute(stream, plan.filters, to);
    ++filter_reorders;
  };
  if (filters.version == 0) {
    plan.weight.set_data_handle(base + plan.weight_at);
    convert(plan.weight);
    return plan.weight;
  }
  const auto desc = plan.weight.get_desc();
  const auto [first, last] = kept.equal_range(filters.data);
  auto it = first;
  while (it != last && it->second.weight.get_desc() != desc) ++it;
  if (it == last) {
    // Filters of models that no longer exist (or are unused for thousands of convolutions) must not accumulate.
    constexpr std::int64_t kRest = 8192;
    std::erase_if(kept, [&](const auto& entry) { return calls - entry.second.last_use > kRest; });
    it = kept.emplace(filters.data, KeptFilters{.weight = memory(desc, engine)});
  }
  KeptFilters& entry = it->second;
  if (entry.version != filters.version) convert(entry.weight);
  entry.version = filters.version;
  entry.last_use = calls;
  return entry.weight;
}

namespace {

void check(const char* what, const ConvGeometry& g, const ConstView& x, const ConstView& y) {
  FROST_CHECK(x.shape.c % g.groups == 0 && y.shape.c % g.groups == 0, what, ": ", x.shape.c, " and ", y.shape.c,
              " channels do not divide into ", g.groups, " groups");
  FROST_CHECK(g.output(x.shape, y.shape.c) == y.shape, what, ": y is ", y.shape, ", x ", x.shape, " gives ",
              g.output(x.shape, y.shape.c));
}

}  // namespace

ConvEngine::ConvEngine() : state_(std::make_unique<State>()) {}
ConvEngine::~ConvEngine() = default;

void ConvEngine::forward(const ConvForward& a) {
  check("conv2d", a.geometry, a.x, a.y);
  if (a.y.shape.elements() == 0) return;
  State& s = *state_;
  Activation activation = a.activation;
  if (activation.kind != ActivationKind::leaky_relu) activation.slope = 0;
  Plan& plan = s.plan({.pass = Pass::forward,
                       .geometry = a.geometry,
                       .x = a.x.shape,
                       .y = a.y.shape,
                       .x_type = a.x.dtype,
                       .y_type = a.y.dtype,
                       .x_pitch = a.x.pitch,
                       .y_pitch = a.y.pitch,
                       .activation = activation,
                       .has_bias = a.bias != nullptr,
                       .accumulate = false});
  char* base = s.reserve(plan.scratch_bytes);
  plan.x.bind(a.x.data, base);
  plan.y.bind(a.y.data, base);
  if (a.bias) plan.bias.set_data_handle(const_cast<float*>(a.bias));
  plan.scratchpad.set_data_handle(base + plan.scratchpad_at);
  plan.arguments[DNNL_ARG_WEIGHTS] = s.weight_for(plan, a.weight, base);
  plan.x.fetch(s.stream);
  s.run(plan);
  plan.y.deliver(s.stream);
  s.stream.wait();
}

void ConvEngine::backward_data(const ConvBackwardData& a) {
  check("conv2d backward", a.geometry, a.dx, a.dy);
  if (a.dx.shape.elements() == 0) return;
  State& s = *state_;
  Plan& plan = s.plan({.pass = Pass::backward_data,
                       .geometry = a.geometry,
                       .x = a.dx.shape,
                       .y = a.dy.shape,
                       .x_type = a.dx.dtype,
                       .y_type = a.dy.dtype,
                       .x_pitch = a.dx.pitch,
                       .y_pitch = a.dy.pitch,
                       .activation = {},
                       .has_bias = false,
                       .accumulate = false});
  char* base = s.reserve(plan.scratch_bytes);
  plan.x.bind(a.dx.data, base);
  plan.y.bind(a.dy.data, base);
  plan.scratchpad.set_data_handle(base + plan.scratchpad_at);
  plan.arguments[DNNL_ARG_WEIGHTS] = s.weight_for(plan, a.weight, base);
  plan.y.fetch(s.stream);
  s.run(plan);
  plan.x.deliver(s.stream);
  s.stream.wait();
}

void ConvEngine::backward_weight(const ConvBackwardWeight& a) {
  check("conv2d backward", a.geometry, a.x, a.dy);
  State& s = *state_;
  Plan& plan = s.plan({.pass = Pass::backward_weight,
                       .geometry = a.geometry,
                       .x = a.x.shape,
                       .y = a.dy.shape,
                       .x_type = a.x.dtype,
                       .y_type = a.dy.dtype,
                       .x_pitch = a.x.pitch,
                       .y_pitch = a.dy.pitch,
                       .activation = {},
                       .has_bias = a.dbias != nullptr,
                       .accumulate = a.accumulate});
  char* base = s.reserve(plan.scratch_bytes);
  plan.x.bind(a.x.data, base);
  plan.y.bind(a.dy.data, base);
  plan.dweight.bind(a.dweight, base);
  plan.scratchpad.set_data_handle(base + plan.scratchpad_at);
  float* dbias = reinterpret_cast<float*>(base + plan.bias_at);
  if (a.dbias) plan.bias.set_data_handle(dbias);
  plan.x.fetch(s.stream);
  plan.y.fetch(s.stream);
  s.run(plan);
  plan.dweight.deliver(s.stream);
  s.stream.wait();
  if (a.dbias)
    for (std::int64_t c = 0; c < a.dy.shape.c; ++c) a.dbias[c] = dbias[c] + (a.accumulate ? a.dbias[c] : 0.f);
}

ConvEngine::Counters ConvEngine::counters() const {
  Counters counters{.plans = static_cast<std::int64_t>(state_->plans.size()),
                    .filter_reorders = state_->filter_reorders,
                    .scratch_bytes = static_cast<std::int64_t>(state_->scratch.size())};
  for (const auto& [data, entry] : state_->kept)
    counters.filter_bytes += static_cast<std::int64_t>(entry.weight.get_desc().get_size());
  return counters;
}

bool ConvEngine::has_bf16() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto bf16 = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & bf16) == bf16;
}

std::string ConvEngine::instruction_set() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::sse41:
      return "sse41";
    default:
      return "isa unknown to frost";
  }
}

void CpuBackend::conv_forward(const ConvForward& a) { conv_->forward(a); }
void CpuBackend::conv_backward_data(const ConvBackwardData& a) { conv_->backward_data(a); }
void CpuBackend::conv_backward_weight(const ConvBackwardWeight& a) { conv_->backward_weight(a); }

}  // namespace frost::cpu
