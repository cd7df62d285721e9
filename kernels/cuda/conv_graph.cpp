#include "kernels/cuda/conv_graph.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace frost::cuda {
namespace {

enum Uid : std::int64_t { kX = 1, kY, kFilters, kBias, kSums, kBiased };

cudnnDataType_t cudnn_type(DType type) {
  switch (type) {
    case DType::f32:
      return CUDNN_DATA_FLOAT;
    case DType::bf16:
      return CUDNN_DATA_BFLOAT16;
    case DType::f16:
      return CUDNN_DATA_HALF;
    default:
      fail("conv2d on CUDA works in f32, bf16 or f16, not in ", name_of(type));
  }
}

/// Dimensions go in the order N, C, H, W (filters: K, C, R, S) whatever the memory's; the strides say that channels run
/// fastest. `inner`: lives in registers between two operations.
Descriptor tensor(Uid uid, const Shape& s, DType type, std::int64_t alignment, bool inner = false) {
  const std::array<std::int64_t, 4> dims{s.n, s.c, s.h, s.w}, strides{s.h * s.w * s.c, 1, s.w * s.c, s.c};
  Descriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  t.set<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid)
      .set(CUDNN_ATTR_TENSOR_DATA_TYPE, cudnn_type(type))
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, std::span<const std::int64_t>(dims))
      .set(CUDNN_ATTR_TENSOR_STRIDES, std::span<const std::int64_t>(strides))
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
  if (inner) t.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
  t.finalize();
  return t;
}

Descriptor convolution(const ConvGeometry& g) {
  const std::array<std::int64_t, 2> stride{g.stride_h, g.stride_w}, pad{g.pad_h, g.pad_w};
  const std::array<std::int64_t, 2> dilation{g.dilation_h, g.dilation_w};
  Descriptor c(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  c.set<std::int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2)
      .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, std::span<const std::int64_t>(pad))
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, std::span<const std::int64_t>(pad))
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, std::span<const std::int64_t>(stride))
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, std::span<const std::int64_t>(dilation))
      .finalize();
  return c;
}

/// The names of one pass' attributes: the three operations differ in nothing else.
struct OperationNames {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t alpha, beta, convolution, x, y, filters;
};
OperationNames names_of(ConvPass pass) {
  switch (pass) {
    case ConvPass::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W};
    case ConvPass::backward_data:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W};
    default:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW};
  }
}

Descriptor pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b, const Descriptor& y,
                     float negative_slope = 0) {
  Descriptor how(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  how.set(CUDNN_ATTR_POINTWISE_MODE, mode).set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
  if (negative_slope != 0) how.set(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, static_cast<double>(negative_slope));
  how.finalize();
  Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how).set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  if (b) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y).finalize();
  return operation;
}

cudnnPointwiseMode_t pointwise_mode(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::silu:
      return CUDNN_POINTWISE_SWISH_FWD;
    case ActivationKind::sigmoid:
      return CUDNN_POINTWISE_SIGMOID_FWD;
    default:
      return CUDNN_POINTWISE_RELU_FWD;
  }
}

/// May this engine serve the key? The notes are cuDNN's own words about its engines.
bool allowed(const ConvKey& key, const std::vector<cudnnBackendNumericalNote_t>& notes) {
  const auto has = [&](cudnnBackendNumericalNote_t note) {
    return std::find(notes.begin(), notes.end(), note) != notes.end();
  };
  if (key.deterministic && has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) return false;
  if (has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return false;
  if (key.dtype != DType::f32) return true;
  if (key.tf32) return true;
  // On f32 data tensor cores mean TF32. Winograd and Fourier transforms cost f32 the digits that it is asked for.
  return !has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS) && !has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE) &&
         !has(CUDNN_NUMERICAL_NOTE_WINOGRAD) && !has(CUDNN_NUMERICAL_NOTE_FFT);
}

}  // namespace

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
    if (knob < 0 || knob >= CUDNN_KNOB_TYPE_COUNTS) return {};
  }
  return choice;
}

Descriptor described_device(std::string_view json) {
  Descriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, std::span<const char>(json.data(), json.size())).finalize();
  return device;
}

void ConvPlan::run(cudnnHandle_t handle, const ConvPointers& p, void* workspace) const {
  const std::array<std::int64_t, 4> uids{kX, kY, kFilters, kBias};
  const std::array<void*, 4> pointers{p.x, p.y, p.filters, p.bias};
  const std::size_t count = bias_ ? 4 : 3;
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, std::span<const std::int64_t>(uids.data(), count))
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, std::span<void* const>(pointers.data(), count))
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, workspace)
      .finalize();
  FROST_CUDA(cudnnBackendExecute(handle, plan_.raw(), pack.raw()));
}

std::string ConvPlan::serialized() const {
  const auto text = plan_.list<char>(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
  return {text.begin(), text.end()};
}

ConvGraph::ConvGraph(const ConvKey& key, const CudnnDevice& device) : key_(key), device_(device) {
  const bool activated = key.activation.kind != ActivationKind::identity;
  FROST_CHECK(key.pass == ConvPass::forward || (!key.bias && !activated), "conv2d: only its forward fuses");
  FROST_CHECK(key.bias || !activated, "conv2d: an activation is fused together with a bias");
  const Shape f = key.filters();
  const Descriptor x = tensor(kX, key.x, key.dtype, key.alignment), y = tensor(kY, key.y, key.dtype, key.alignment);
  const Descriptor filters = tensor(kFilters, f, key.dtype, key.alignment), conv = convolution(key.geometry);
  const Descriptor sums = key.bias ? tensor(kSums, key.y, DType::f32, key.alignment, true) : Descriptor();

  const OperationNames names = names_of(key.pass);
  std::vector<Descriptor> operations;
  operations.emplace_back(names.operation)
      .set(names.alpha, 1.f)
      .set(names.beta, 0.f)
      .set(names.convolution, conv)
      .set(names.x, x)
      .set(names.y, key.bias ? sums : y)
      .set(names.filters, filters)
      .finalize();
  Descriptor bias, biased;
  if (key.bias) {
    bias = tensor(kBias, {1, 1, 1, key.y.c}, bias_type(key), key.alignment);
    if (activated) biased = tensor(kBiased, key.y, DType::f32, key.alignment, true);
    operations.push_back(pointwise(CUDNN_POINTWISE_ADD, sums, &bias, activated ? biased : y));
    if (activated)
      operations.push_back(pointwise(pointwise_mode(key.activation.kind), biased, nullptr, y,
                                     key.activation.kind == ActivationKind::leaky_relu ? key.activation.slope : 0));
  }
  graph_ = Descriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations);
  if (device.handle) graph_.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, device.handle);
  graph_.finalize();
}

std::optional<Candidate> ConvGraph::describe(Descriptor config) const {
  auto engines = config.list(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
  if (engines.empty()) return {};
  const Descriptor& engine = engines[0];
  if (!allowed(key_, engine.list<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE))) return {};
  Candidate candidate;
  candidate.choice.engine = engine.get<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  for (const Descriptor& knob :
       config.list(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS))
    candidate.choice.knobs.emplace_back(knob.get<cudnnBackendKnobType_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE),
                                        knob.get<std::int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
  const auto notes = engine.list<cudnnBackendBehaviorNote_t>(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE);
  candidate.compiled_at_run_time =
      std::find(notes.begin(), notes.end(), CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != notes.end();
  candidate.workspace = config.get<std::int64_t>(CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE);
  candidate.config = std::move(config);
  return candidate;
}

void ConvGraph::offer(cudnnBackendHeurMode_t mode, std::int64_t most, std::vector<Candidate>& to) const {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_).set(CUDNN_ATTR_ENGINEHEUR_MODE, mode);
  if (device_.properties) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *device_.properties);
  if (const cudnnStatus_t status = heuristics.try_finalize(); not_supported(status))
    return;
  else
    FROST_CUDA(status);
  constexpr std::int64_t kAll = 1024;
  for (Descriptor& config : heuristics.list(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, kAll)) {
    if (static_cast<std::int64_t>(to.size()) == most) return;
    if (auto candidate = describe(std::move(config))) to.push_back(std::move(*candidate));
  }
}

std::vector<Candidate> ConvGraph::candidates(std::int64_t most) const {
  std::vector<Candidate> found;
  offer(CUDNN_HEUR_MODE_A, most, found);
  if (found.empty()) offer(CUDNN_HEUR_MODE_FALLBACK, most, found);
  return found;
}

std::optional<Candidate> ConvGraph::candidate(const EngineChoice& choice) const {
  if (choice.engine >= graph_.get<std::int64_t>(CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT)) return {};
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph_).set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, choice.engine);
  if (device_.properties) engine.set(CUDNN_ATTR_ENGINE_DEVICEPROP, *device_.properties);
  if (engine.try_finalize() != CUDNN_STATUS_SUCCESS) return {};
  std::vector<Descriptor> knobs;
  for (const auto& [knob, value] : choice.knobs) {
    Descriptor& k = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    k.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, static_cast<cudnnBackendKnobType_t>(knob));
    k.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
    if (k.try_finalize() != CUDNN_STATUS_SUCCESS) return {};
  }
  Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  config.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  if (!knobs.empty()) config.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, knobs);
  if (config.try_finalize() != CUDNN_STATUS_SUCCESS) return {};
  return describe(std::move(config));
}

Descriptor ConvGraph::empty_plan() const {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (device_.handle) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, device_.handle);
  if (device_.properties) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *device_.properties);
  return plan;
}

std::optional<ConvPlan> ConvGraph::finished(Descriptor descriptor) const {
  if (descriptor.try_finalize() != CUDNN_STATUS_SUCCESS) return {};
  ConvPlan plan;
  plan.bias_ = key_.bias;
  plan.workspace_ = descriptor.get<std::int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  plan.plan_ = std::move(descriptor);
  return plan;
}

std::optional<ConvPlan> ConvGraph::plan(const Candidate& candidate) const {
  Descriptor plan = empty_plan();
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, candidate.config);
  return finished(std::move(plan));
}

std::optional<ConvPlan> ConvGraph::plan(std::string_view serialized) const {
  Descriptor plan = empty_plan();
  if (cudnnBackendSetAttribute(plan.raw(), CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                               static_cast<std::int64_t>(serialized.size()), serialized.data()) != CUDNN_STATUS_SUCCESS)
    return {};
  return finished(std::move(plan));
}

}  // namespace frost::cuda
