#include "models/graph/detection_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "kernels/trace/trace.h"
#include "models/graph/registry.h"

namespace frost {
namespace {
std::int64_t parameter_count(Module& module) {
  std::int64_t count = 0;
  for (const Parameter* p : module.parameters()) count += p->value.elements();
  return count;
}
}  // namespace

namespace {

/// Channels of what a layer reads; -1 is the image.
std::vector<std::int64_t> input_channels(const ModelSpec& spec, const LayerSpec& layer,
                                         const std::vector<std::int64_t>& channels) {
  std::vector<std::int64_t> inputs;
  for (const int f : layer.from) {
    const int absolute = f < 0 ? layer.index + f : f;
    inputs.push_back(absolute < 0 ? spec.channels : channels[static_cast<std::size_t>(absolute)]);
  }
  return inputs;
}

}  // namespace

DetectionModel::DetectionModel(Device& device, ModelSpec spec, Seed seed, const Widths& widths)
    : Model(std::filesystem::path(spec.name).stem().string()), device_(device), spec_(std::move(spec)) {
  std::vector<float> strides;
  const bool costs = !is_meta(device.backend());
  if (costs) {  // refuse before memory is allocated and weights are drawn
    Device meta(make_meta_backend(device.backend(), {}));
    DetectionModel trial(meta, spec_, seed, widths);
    strides = trial.detect_->strides;
    rows_ = std::move(trial.rows_);
  }
  Sequential& graph = add_child("model", std::make_unique<Sequential>());
  std::vector<std::int64_t> channels;  // of each layer's output
  GraphBudget budget;
  const BlockBuilder builder{.device = device, .budget = budget};
  for (const LayerSpec& layer : spec_.layers) build(builder, layer, channels, graph);
  FROST_CHECK(detect_, spec_.name, ": the last layer must be Detect");
  LayerNames names{.prefixes = {}, .backbone = spec_.backbone};
  for (std::size_t i = 0; i < layers_.size(); ++i) names.prefixes.push_back({fmt::format("model.{}.", i)});
  finish(std::move(names));
  apply_settings(*this, spec_.modules, spec_.name);  // widths are tried in a pass
  if (!widths.empty()) fit(widths);
  if (!costs) strides = try_pass(channels, !widths.empty());

  if (seed)
    walk([rng = Rng(*seed)](const std::string&, Module& module) mutable {
      if (auto* conv = dynamic_cast<Conv2d*>(&module)) conv->initialise(rng);
    });
  detect_->set_strides(strides);
  // The strides are YOLOv5's from a pass in training mode over an empty image, with its batch norms still at momentum 0.1:
  // every running variance is 0.9 then and every counter 1.
  walk([&](const std::string&, Module& module) {
    if (auto* bn = dynamic_cast<BatchNorm2d*>(&module)) {
      bn->running_var.value.assign(std::vector<float>(static_cast<std::size_t>(bn->channels), 0.9f));
      bn->running_var.touch();
      bn->num_batches_tracked.value = 1;
    }
  });
}

/// One pass on a meta device: bounds its work, completes the printed rows, and gives the strides.
std::vector<float> DetectionModel::try_pass(const std::vector<std::int64_t>& channels, bool fitted) {
  double bytes = 0, window_values = 0;
  Device meta(make_meta_backend(device_.backend(), [&](const PrimitiveCall& call) {
    bytes += static_cast<double>(call.bytes), window_values += static_cast<double>(call.window_values);
  }));
  Profile profile;
  Context context{.device = meta, .profile = &profile};
  const std::int64_t side = 256;
  std::vector<std::int64_t> actual;
  int layer = 0;  // that runs
  const auto check_work = [&] {
    const auto bound = [&](double spent, double most, const char* what) {
      FROST_CHECK(spent <= most, "more than 2^", std::log2(most), " ", what, " for an image of ", side, " x ", side,
                  " up to here");
    };
    bound(profile.convolution, GraphBudget::kMultiplyAdds, "multiply-adds");
    bound(bytes, GraphBudget::kBytes, "bytes read and written");
    bound(window_values, GraphBudget::kWindowValues, "values in the windows of max pools");
  };
  const auto seen = [&](int, const Var& y) {
    actual.push_back(y.shape().c);
    check_work();
    ++layer;
  };
  std::vector<float> strides;
  try {
    for (const Var& map : heads(context, {Tensor(meta, {1, side, side, spec_.channels}), -1, nullptr}, seen))
      strides.push_back(static_cast<float>(side) / static_cast<float>(map.shape().h));
    check_work();
  } catch (const Error& e) {
    fail(spec_.name, ": layer ", layer, " (", spec_.layers[static_cast<std::size_t>(layer)].module, "): ", e.what());
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) rows_[i].parameters = parameter_count(*layers_[i].module);
  if (fitted) describe_widths(channels, actual);
  return strides;
}

/// Takes the widths, except for the head's outputs: their number follows from classes and anchors.
void DetectionModel::fit(Widths widths) {
  for (const Conv2d* conv : detect_->convs)
    if (const auto it = widths.find(conv->weight.name); it != widths.end() && it->second.size() == 4)
      it->second[0] = conv->out;
  fit_widths(*this, widths);
}

/// The printed rows of what was fitted: channels as they are, not as the YAML would have them.
void DetectionModel::describe_widths(const std::vector<std::int64_t>& built, const std::vector<std::int64_t>& channels) {
  const auto inputs = [&](const Layer& layer, const std::vector<std::int64_t>& of) {
    std::vector<std::int64_t> list;
    for (const int from : layer.from) list.push_back(from < 0 ? spec_.channels : of[static_cast<std::size_t>(from)]);
    return list;
  };
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Row& row = rows_[i];
    const std::vector<std::int64_t> was = inputs(layers_[i], built), is = inputs(layers_[i], channels);
    std::string before, after;
    if (layers_[i].module == detect_) {
      before = fmt::format("[{}]]", fmt::join(was, ", ")), after = fmt::format("[{}]]", fmt::join(is, ", "));
    } else {
      if (rows_[i].type.ends_with("BatchNorm2d")) {
        row.arguments = fmt::format("[{}]", channels[i]);
        continue;
      }
      before = fmt::format("[{}, {}", was[0], built[i]), after = fmt::format("[{}, {}", is[0], channels[i]);
    }
    if (const auto at = row.arguments.find(before); at != std::string::npos) row.arguments.replace(at, before.size(), after);
  }
}

void DetectionModel::build(const BlockBuilder& builder, const LayerSpec& layer, std::vector<std::int64_t>& channels,
                           Sequential& graph) {
  FROST_CHECK(!detect_, spec_.name, ": layer ", layer.index, " follows Detect, which must be the last");
  Layer node;
  for (const int f : layer.from) {
    const int absolute = f < 0 ? layer.index + f : f;
    node.from.push_back(absolute);
    if (absolute >= 0) uses_[static_cast<std::size_t>(absolute)] = layer.index;
  }
  BuiltLayer built = build_layer(builder, spec_, layer, input_channels(spec_, layer, channels));
  detect_ = dynamic_cast<Detect*>(built.module.get());
  node.module = &graph.append(std::move(built.module));
  layers_.push_back(node);
  uses_.push_back(layer.index);
  channels.push_back(built.channels);
  std::string from = fmt::format("{}", layer.from[0]);
  if (layer.from_is_list) from = fmt::format("[{}]", fmt::join(layer.from, ", "));
  if (rows_.size() < layers_.size())  // else the trial's
    rows_.push_back({layer.index, built.printed_number, from, built.type, built.arguments, 0});
}

std::vector<Var> DetectionModel::run(Context& context, std::vector<Var>& outputs, int first, int last,
                                     const std::function<void(int, const Var&)>& observe) {
  for (int i = first; i < last; ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    std::vector<Var> inputs;
    for (const int from : layer.from) inputs.push_back(outputs[static_cast<std::size_t>(from + 1)]);
    for (std::size_t j = 0; j < static_cast<std::size_t>(i); ++j)  // the last layer that reads layer j frees it
      if (uses_[j] == i) outputs[j + 1] = Var();
    const Device::ScopeGuard scope(context.device, layer.module->name());
    if (layer.module == detect_) return detect_->heads(context, inputs);
    Var y = layer.module->forward_many(context, inputs);
    inputs.clear();
    if (observe) observe(i, y);
    outputs[static_cast<std::size_t>(i + 1)] = std::move(y);
  }
  return {};
}

std::vector<Var> DetectionModel::heads(Context& context, const Var& image,
                                       const std::function<void(int, const Var&)>& observe) {
  return heads_from(context, 0, {image}, observe);
}

int DetectionModel::frozen_prefix() {
  int layer = 0;
  const auto trains = [](const Parameter* p) { return p->trainable; };
  for (; layer + 1 < static_cast<int>(layers_.size()); ++layer) {
    const std::vector<Parameter*> own = layers_[static_cast<std::size_t>(layer)].module->parameters();
    if (std::any_of(own.begin(), own.end(), trains)) break;
  }
  return layer;
}

std::vector<int> DetectionModel::crossing(int cut) const {
  std::set<int> read;
  for (std::size_t i = static_cast<std::size_t>(cut); i < layers_.size(); ++i)
    for (const int from : layers_[i].from)
      if (from < cut) read.insert(from);
  return {read.begin(), read.end()};
}

std::vector<Var> DetectionModel::features(Context& context, const Var& image, int cut) {
  FROST_CHECK(image.shape().c == spec_.channels, "model: the image has ", image.shape().c, " channels, expected ",
              spec_.channels);
  std::vector<Var> outputs(layers_.size() + 1);
  outputs[0] = image;
  run(context, outputs, 0, cut, {});
  std::vector<Var> crossed;
  for (const int layer : crossing(cut)) crossed.push_back(outputs[static_cast<std::size_t>(layer + 1)]);
  return crossed;
}

std::vector<Var> DetectionModel::heads_from(Context& context, int cut, const std::vector<Var>& features,
                                            const std::function<void(int, const Var&)>& observe) {
  const std::vector<int> sources = crossing(cut);
  FROST_CHECK(features.size() == sources.size(), "model: ", features.size(), " features, layers from ", cut, " on read ",
              sources.size());
  std::vector<Var> outputs(layers_.size() + 1);
  for (std::size_t i = 0; i < sources.size(); ++i) outputs[static_cast<std::size_t>(sources[i] + 1)] = features[i];
  FROST_CHECK(sources.front() != -1 || features.front().shape().c == spec_.channels, "model: the image has ",
              features.front().shape().c, " channels, expected ", spec_.channels);
  return run(context, outputs, cut, static_cast<int>(layers_.size()), observe);
}

std::unique_ptr<Model> DetectionModel::build_again(Device& device) {
  return std::make_unique<DetectionModel>(device, spec_, std::nullopt, widths_of(*this));
}

void DetectionModel::make_head(int classes, std::uint64_t seed) {
  spec_ = parse_model_yaml(spec_.text, spec_.name, classes);
  detect_->set_classes(classes, Rng(seed));
  Device meta(make_meta_backend(device_.backend(), [](const PrimitiveCall&) {}));
  rows_ = DetectionModel(meta, spec_, std::nullopt, widths_of(*this)).rows_;
}

Preprocessing DetectionModel::preprocessing() const {
  return {.mean = {0, 0, 0}, .stddev = {1, 1, 1}, .framing = Preprocessing::Framing::letterbox};
}

std::vector<Detection> DetectionModel::decode(const std::vector<Var>& outputs, const PredictOptions& options) {
  Backend& backend = device_.backend();
  const DecodedRows rows = backend.detect_decode(
      {.levels = detect().levels(outputs), .classes = detect().classes, .conf_threshold = options.conf_thres});
  return backend
      .nms({.rows = rows.data(),
            .row_counts = rows.counts,
            .classes = detect().classes,
            .conf_threshold = options.conf_thres,
            .iou_threshold = options.iou_thres,
            .agnostic = options.agnostic_nms,
            .max_detections = options.max_det,
            .keep_classes = options.classes})
      .at(0);
}

std::string DetectionModel::layer_type(int i) {
  const std::string& type = rows_[static_cast<std::size_t>(i)].type;
  return type.substr(type.rfind('.') + 1);
}

Metadata DetectionModel::metadata() const {
  namespace key = checkpoint_key;
  return {{key::format, "1"},
          {key::yaml, spec_.text},
          {key::yaml_file, spec_.name},
          {key::names, nlohmann::json(names).dump()},
          {key::stride, nlohmann::json(detect_->strides).dump()}};
}

int DetectionModel::stride() const {
  return std::max(static_cast<int>(*std::max_element(detect_->strides.begin(), detect_->strides.end())), 32);
}

std::string DetectionModel::table() const {
  std::string text =
      fmt::format("\n{:>3}{:>18}{:>3}{:>10}  {:<40}{:<30}\n", "", "from", "n", "params", "module", "arguments");
  for (const Row& row : rows_)
    text += fmt::format("{:>3}{:>18}{:>3}{:>10}  {:<40}{:<30}\n", row.index, row.from, row.number, row.parameters, row.type,
                        row.arguments);
  return text;
}

std::string DetectionModel::summary(bool fused, bool gradients) {
  std::int64_t modules = 1, parameters = 0, trainable = 0, norms = 0,
               norm_channels = 0;  // the shared activation counts once
  walk([&](const std::string&, Module& module) {
    ++modules;
    if (auto* block = dynamic_cast<ConvNormAct*>(&module)) {
      ++norms;
      norm_channels += block->bn.channels;
      modules += block->own_activation;
    }
  });
  for (const Parameter* p : this->parameters()) {
    parameters += p->value.elements();
    if (p->trainable) trainable += p->value.elements();
  }
  if (fused) {
    modules -= norms;
    parameters -= norm_channels;  // gamma and beta go, a bias comes
    trainable = parameters;
  }
  Profile profile;
  Device meta(make_meta_backend(device_.backend(), {}));
  Context context{.device = meta, .profile = &profile};
  const std::int64_t side = stride();
  heads(context, {Tensor(meta, {1, side, side, spec_.channels}), -1, nullptr});
  const double macs = static_cast<double>(profile.convolution + profile.resize + (fused ? 0 : profile.norm));
  const double gflops = 2 * macs / 1e9 * (640.0 / static_cast<double>(side)) * (640.0 / static_cast<double>(side));
  std::string stem =
      std::filesystem::path(spec_.name).extension() == ".yaml" ? std::filesystem::path(spec_.name).stem().string() : "Model";
  if (const auto at = stem.find("yolov5"); at != std::string::npos) stem.replace(at, 6, "YOLOv5");
  return fmt::format("{} summary: {} layers, {} parameters, {} gradients, {:.1f} GFLOPs", stem, modules, parameters,
                     gradients ? trainable : 0, gflops);
}

}  // namespace frost
