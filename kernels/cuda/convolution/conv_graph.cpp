#include "kernels/cuda/convolution/conv_graph.h"

#include <algorithm>
#include <charconv>

#include "kernels/cuda/runtime/check.h"

// Plans are written in cuDNN's own form; the frontend's JSON library would only be compiled.
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

namespace frost::cuda {
namespace fe = cudnn_frontend;

/// cudnn-frontend's Graph builds the graph. Engines and plans come from the functions below Graph: Graph neither gives a
/// workspace before the plan is made, nor distinguishes "not supported" from an error.
struct ConvGraph::Graph : fe::graph::Graph {
  using ICudnn::operation_graph;
};

namespace {

enum Uid : std::int64_t { kX = 1, kY, kFilters, kBias, kSums, kBiased };

// What captured work runs belongs to its captured graph (Context::captured_uses): the frontend need not see to it.
constexpr auto kRetention = fe::CudaGraphRetention_t::NONE;

/// cuDNN's message for the user, in one line.
template <class What>
[[noreturn]] void refuse(const What& what, std::string words) {
  std::replace(words.begin(), words.end(), '\n', ' ');
  fail("cuDNN: ", what, ": ", words);
}
template <class What>
void check(fe::error_t status, const What& what) {
  if (status.is_bad()) refuse(what, status.get_message());
}

fe::DataType_t data_type(DType type) {
  switch (type) {
    case DType::f32:
      return fe::DataType_t::FLOAT;
    case DType::bf16:
      return fe::DataType_t::BFLOAT16;
    case DType::f16:
      return fe::DataType_t::HALF;
    default:
      fail("conv2d on CUDA works in f32, bf16 or f16, not in ", name_of(type));
  }
}

/// Dimensions go in the order N, C, H, W (filters: K, C, R, S) whatever the memory's; the strides say that channels run
/// fastest.
fe::graph::Tensor_attributes tensor(Uid uid, const Shape& s, DType type, std::int64_t alignment) {
  return fe::graph::Tensor_attributes()
      .set_uid(uid)
      .set_data_type(data_type(type))
      .set_dim({s.n, s.c, s.h, s.w})
      .set_stride({s.h * s.w * s.c, 1, s.w * s.c, s.c})
      .set_alignment(alignment);
}

/// Of any of the three passes: they differ in nothing but the type's name.
template <class Attributes>
Attributes convolution(const ConvGeometry& g) {
  return Attributes()
      .set_padding({g.pad_h, g.pad_w})
      .set_stride({g.stride_h, g.stride_w})
      .set_dilation({g.dilation_h, g.dilation_w});
}

fe::graph::Pointwise_attributes activation(const Activation& a) {
  fe::graph::Pointwise_attributes pointwise;
  switch (a.kind) {
    case ActivationKind::silu:
      return pointwise.set_mode(fe::PointwiseMode_t::SWISH_FWD);
    case ActivationKind::sigmoid:
      return pointwise.set_mode(fe::PointwiseMode_t::SIGMOID_FWD);
    case ActivationKind::leaky_relu:
      return pointwise.set_mode(fe::PointwiseMode_t::RELU_FWD).set_relu_lower_clip_slope(a.slope);
    case ActivationKind::relu:
      return pointwise.set_mode(fe::PointwiseMode_t::RELU_FWD);
    default:
      fail("conv2d: cuDNN fuses no such activation");
  }
}

/// May this engine serve the key? The notes are cuDNN's own words about its engines.
bool allowed(const ConvKey& key, cudnnBackendDescriptor_t config) {
  if (key.deterministic && fe::hasNumericalNote<CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC>(config)) return false;
  if (fe::hasNumericalNote<CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION>(config)) return false;
  if (key.dtype != DType::f32) return true;
  if (key.tf32) return true;
  // On f32 data tensor cores mean TF32. Winograd and Fourier transforms cost f32 the digits that it is asked for.
  return !fe::hasNumericalNote<CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS>(config) &&
         !fe::hasNumericalNote<CUDNN_NUMERICAL_NOTE_TENSOR_CORE>(config) &&
         !fe::hasNumericalNote<CUDNN_NUMERICAL_NOTE_WINOGRAD>(config) &&
         !fe::hasNumericalNote<CUDNN_NUMERICAL_NOTE_FFT>(config);
}

/// Empty where cuDNN does not report what we need: another configuration is used then.
std::optional<Candidate> described(fe::ManagedOpaqueDescriptor config) {
  Candidate candidate;
  std::vector<std::pair<cudnnBackendKnobType_t, std::int64_t>> knobs;
  if (fe::detail::get_engine_id_and_knobs(config, candidate.choice.engine, knobs) != CUDNN_STATUS_SUCCESS) return {};
  std::sort(knobs.begin(), knobs.end());  // they come in any order
  candidate.choice.knobs.assign(knobs.begin(), knobs.end());
  candidate.compiled_at_run_time =
      fe::hasBehaviorNote<CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION>(config->get_backend_descriptor());
  if (fe::detail::get_workspace_size(config, candidate.workspace).is_bad()) return {};
  candidate.config = std::move(config);
  return candidate;
}

}  // namespace

void fail_call(cudnnStatus_t status, const char* call, const char* file, int line) {
  char why[1024] = "";
  cudnnGetLastErrorString(why, sizeof why);
  fail(call, ": ", cudnnGetErrorString(status), why[0] ? " (" : "", why, why[0] ? ")" : "", " at ", place(file, line));
}

std::string to_text(const EngineChoice& choice) {
  std::string text = std::to_string(choice.engine);
  char separator = ':';
  for (const auto& [knob, value] : choice.knobs) {
    text += separator + std::to_string(knob) + "=" + std::to_string(value);
    separator = ',';
  }
  return text;
}

std::optional<EngineChoice> engine_choice(std::string_view text) {
  const auto number = [&](std::int64_t& to) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
    if (error != std::errc()) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
  };
  const auto skip = [&](char c) {
    if (text.empty() || text[0] != c) return false;
    text.remove_prefix(1);
    return true;
  };
  EngineChoice choice;
  if (!number(choice.engine) || choice.engine < 0) return {};
  for (char separator = ':'; !text.empty(); separator = ',') {
    auto& [knob, value] = choice.knobs.emplace_back();
    if (!skip(separator) || !number(knob) || !skip('=') || !number(value)) return {};
    if (knob < 0) return {};  // which there are is known to the cuDNN that runs
  }
  return choice;
}

CudnnDevice described_device(std::string_view json) {
  const auto device = std::make_shared<fe::DeviceProperties>();
  check(device->deserialize({json.begin(), json.end()}), "the description of a device");
  return {.properties = device};
}

std::int64_t ConvPlan::workspace() const { return plan_->getWorkspaceSize(); }

/// The core of Graph::execute. Before it, Graph::execute asks the driver for a context; a library that is opened on
/// machines without a driver cannot link this. The list of pointers that each call makes costs 0.9 us (measured), cuDNN's
/// launch comes on top.
void ConvPlan::run(cudnnHandle_t handle, const ConvPointers& p, void* workspace) const {
  static const std::vector<std::int64_t> plain{kX, kY, kFilters}, biased{kX, kY, kFilters, kBias};
  void* const pointers[] = {p.x, p.y, p.filters, p.bias};
  check(fe::detail::execute(handle, plan_.get(), pointers, bias_ ? biased : plain, workspace), "a convolution");
}

std::string ConvPlan::serialized() const {
  try {
    return plan_->getJsonRepresentation();
  } catch (fe::cudnnException& e) {
    refuse("a plan's written form", e.what());
  }
}

ConvGraph::ConvGraph(const ConvKey& key, const CudnnDevice& device)
    : key_(key), device_(device), graph_(std::make_shared<Graph>()) {
  const bool activated = key.activation.kind != ActivationKind::identity;
  FROST_CHECK(key.pass == ConvPass::forward || (!key.bias && !activated), "conv2d: only its forward fuses");
  FROST_CHECK(key.bias || !activated, "conv2d: an activation is fused together with a bias");
  Graph& g = *graph_;
  g.set_compute_data_type(fe::DataType_t::FLOAT).set_device_properties(device.properties);
  const auto x = tensor(kX, key.x, key.dtype, key.alignment), y = tensor(kY, key.y, key.dtype, key.alignment);
  const auto filters = tensor(kFilters, key.filters(), key.dtype, key.alignment);
  // An operation's result is one of our tensors; between two operations it stays in registers, in f32.
  const auto inner = [&](Uid uid) { return tensor(uid, key.y, DType::f32, key.alignment).set_is_virtual(true); };
  switch (key.pass) {
    case ConvPass::forward: {
      auto result =
          g.conv_fprop(g.tensor(x), g.tensor(filters), convolution<fe::graph::Conv_fprop_attributes>(key.geometry));
      if (key.bias) {
        *result = inner(kSums);
        const auto bias = g.tensor(tensor(kBias, {1, 1, 1, key.y.c}, bias_type(key), key.alignment));
        result = g.pointwise(result, bias, fe::graph::Pointwise_attributes().set_mode(fe::PointwiseMode_t::ADD));
      }
      if (activated) {
        *result = inner(kBiased);
        result = g.pointwise(result, activation(key.activation));
      }
      *result = y;
      break;
    }
    case ConvPass::backward_data:
      *g.conv_dgrad(g.tensor(y), g.tensor(filters), convolution<fe::graph::Conv_dgrad_attributes>(key.geometry)) = x;
      break;
    case ConvPass::backward_weight:
      *g.conv_wgrad(g.tensor(y), g.tensor(x), convolution<fe::graph::Conv_wgrad_attributes>(key.geometry)) = filters;
  }
  check(g.validate(), key);
  check(g.build_operation_graph(device.handle), key);
}

std::vector<Candidate> ConvGraph::candidates(std::int64_t most) const {
  std::vector<Candidate> found;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) try {
      auto heuristics = fe::EngineHeuristicsBuilder()
                            .setOperationGraph(*graph_->operation_graph)
                            .setDeviceProperties(device_.properties)
                            .setHeurMode(mode)
                            .build();
      for (auto& config : heuristics.getEngineConfig(heuristics.getEngineConfigCount())) {
        if (static_cast<std::int64_t>(found.size()) == most) break;
        if (!allowed(key_, config->get_backend_descriptor())) continue;
        if (auto candidate = described(config)) found.push_back(std::move(*candidate));
      }
      if (!found.empty()) break;
    } catch (fe::cudnnException& e) {
      if (!not_supported(e.getCudnnStatus())) refuse(key_, e.what());
    }
  return found;
}

/// Graph::create_execution_plan would do, if it knew the knobs that cuDNN calls deprecated: its heuristics still turn them.
std::optional<Candidate> ConvGraph::candidate(const EngineChoice& choice) const {
  fe::detail::backend_descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  const auto graph = graph_->operation_graph->get_raw_desc();
  if (fe::detail::create_engine(engine, choice.engine, graph, device_.properties).is_bad()) return {};
  if (choice.knobs.size() > CUDNN_KNOB_TYPE_COUNTS) return {};  // more than the frontend has room for
  std::vector<fe::detail::backend_descriptor> knobs;
  for (const auto& [knob, value] : choice.knobs) {
    const auto type = static_cast<cudnnBackendKnobType_t>(knob);
    auto& k = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    const auto set = [&](cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t of, const void* to) {
      return cudnnBackendSetAttribute(k.get_ptr(), name, of, 1, to) == CUDNN_STATUS_SUCCESS;
    };
    if (!set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, &type) ||
        !set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, &value) || k.finalize().is_bad())
      return {};
  }
  auto config = fe::make_shared_backend_pointer(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  if (fe::detail::create_engine_config(config, engine, knobs).is_bad()) return {};
  if (!allowed(key_, config->get_backend_descriptor())) return {};
  return described(std::move(config));
}

std::optional<ConvPlan> ConvGraph::plan(const Candidate& candidate) const {
  ConvPlan plan;
  plan.bias_ = key_.bias;
  const auto& tag = graph_->operation_graph->getTag();
  if (fe::detail::create_cudnn_execution_plan(plan.plan_, candidate.config, tag, nullptr, kRetention).is_bad()) return {};
  return plan;
}

std::optional<ConvPlan> ConvGraph::plan(std::string_view serialized) const {
  ConvPlan plan;
  plan.bias_ = key_.bias;
  if (fe::detail::create_cudnn_execution_plan_impl(plan.plan_, std::string(serialized), device_.handle, device_.properties,
                                                   kRetention)
          .is_bad())
    return {};
  return plan;
}

}  // namespace frost::cuda
