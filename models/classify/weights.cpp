#include "models/classify/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/base/input_file.h"
#include "engine/checkpoint/module_state.h"
#include "engine/checkpoint/sparse_checkpoint.h"
#include "engine/checkpoint/torch_file.h"
#include "engine/nn/widths.h"
#include "kernels/trace/trace.h"
#include "models/classify/yolo_classifier.h"
#include "models/yolo/model_io.h"
#include "models/zoo/module_comparison.h"
#include "models/zoo/yolo_checkpoint.h"

namespace frost::classify {
namespace {

namespace key = checkpoint_key;

bool is_safetensors(const std::filesystem::path& file) {
  if (file.extension() == ".safetensors") return true;
  constexpr int kStart = 9;
  const FileBytes start(InputFile(file), kStart);
  const auto bytes = start.bytes();
  return bytes.size() == kStart && bytes[8] == std::byte{'{'} && bytes[7] == std::byte{0};
}

std::string classify_head(int layer) { return fmt::format("model.{}.linear.weight", layer); }

/// "model.9.linear.weight" -> 9; -1 where there is none.
int classify_layer(const StateDict& state) {
  constexpr std::string_view kFront = "model.";
  for (const auto& [name, tensor] : state) {
    int layer = -1;
    if (name.starts_with(kFront)) std::from_chars(name.data() + kFront.size(), name.data() + name.size(), layer);
    if (layer >= 0 && layer < 1000 && name == classify_head(layer)) return layer;
  }
  return -1;
}

/// How many classes a head's weight, (classes, inputs), is made for.
std::int64_t classes_of(const HostTensor& head, const std::string& name, const std::string& file) {
  constexpr std::int64_t kMost = 1'000'000;
  FROST_CHECK(head.shape.size() == 2 && head.count() > 0 && head.shape[0] <= kMost, file, ": ", name, " of shape ",
              shape_text(head.shape), " is no classifier's last layer");
  return head.shape[0];
}

/// The model that a file's architecture, graph and cutoff name, as it was before filters were pruned.
std::unique_ptr<Classifier> unpruned(Device& device, const ClassifierWeights& weights, int classes, Seed seed, int cutoff) {
  if (weights.yaml_text.empty()) return make_classifier(device, weights.architecture, classes, seed, cutoff);
  const ModelSpec spec = parse_model_yaml(weights.yaml_text, weights.yaml_file);
  return std::make_unique<YoloClassifier>(device, weights.architecture, spec, classes, seed, cutoff);
}

/// The classifier of the registry that a state dict's names and shapes fit: at least half of all names are in both. ""
/// where there is none.
std::string guess_architecture(const StateDict& state, int cutoff) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device meta(make_meta_backend(*cpu, {}));
  std::string best;
  double most = 0.5;
  for (const std::string& name : classifier_names()) {
    std::unique_ptr<Classifier> model;
    try {
      model = make_classifier(meta, name, 1, {}, cutoff);
    } catch (const Error&) {  // a cutoff that its graph does not have
      continue;
    }
    double both = 0, all = static_cast<double>(state.size());
    const auto compare = [&](const std::string& tensor, const std::vector<std::int64_t>& shape) {
      const HostTensor* theirs = state.find(tensor);
      both += theirs ? (theirs->shape == shape ? 1 : 0.5) : 0;
      all += theirs ? 0 : 1;
    };
    for (const Parameter* p : model->parameters()) compare(p->name, p->torch_shape);
    for (const Buffer* b : model->buffers()) compare(b->name, b->torch_shape);
    if (both / all > most) best = name, most = both / all;
  }
  return best;
}

/// A detector's backbone: the graph comes with it.
void take_detector(ClassifierWeights& out, YoloCheckpoint checkpoint) {
  out.detector = true;
  out.yaml_text = checkpoint.yaml_text;
  if (!checkpoint.modules.empty()) {  // what they say beyond the YAML belongs to the graph
    const std::unique_ptr<Backend> cpu = make_cpu_backend();
    Device meta(make_meta_backend(*cpu, {}));
    ModelSpec spec = parse_model_yaml(checkpoint.yaml_text, checkpoint.yaml_file.empty() ? out.file : checkpoint.yaml_file);
    out.yaml_text = yolo::fitted_model(meta, std::move(spec), 0, checkpoint, out.file)->spec().text;
  }
  out.state = std::move(checkpoint.state);
  out.yaml_file = checkpoint.yaml_file;
  const std::string stem = std::filesystem::path(checkpoint.yaml_file).stem().string();
  out.architecture = (stem.empty() ? "yolov5" : stem) + "-cls";
}

void read_own(ClassifierWeights& out) {
  SafetensorsFile file = read_checkpoint(out.file);
  out.metadata = std::move(file.metadata);
  const auto text = [&](const char* key) {
    const auto it = out.metadata.find(key);
    return it == out.metadata.end() ? std::string() : it->second;
  };
  out.architecture = text(key::classifier);
  if (out.architecture.empty() && !text(key::yaml).empty()) return take_detector(out, load_yolo_checkpoint(out.file));
  out.own = !out.architecture.empty();
  out.yaml_text = text(key::yaml);
  out.yaml_file = text(key::yaml_file);
  try {
    if (!text(key::names).empty()) out.names = nlohmann::json::parse(text(key::names)).get<std::vector<std::string>>();
    if (!text(key::cutoff).empty()) out.cutoff = std::stoi(text(key::cutoff));
  } catch (const std::exception&) {
    fail(out.file, ": its metadata cannot be read");
  }
  out.state = file.tensors.below("ema.");
  if (out.state.empty())
    for (const auto& [name, tensor] : file.tensors)
      if (!name.starts_with("optimizer.")) out.state.add(name, tensor);
}

/// Refuses a pickled classifier whose modules differ from the network of its name, which is built on a meta device.
void check_modules(const TorchFile& file, const ClassifierWeights& weights) {
  const pickle::Ref network = file.weights();
  const std::string& architecture = weights.architecture;
  if (architecture.empty()) return;
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device meta(make_meta_backend(*cpu, {}));
  const auto built = make_classifier(meta, architecture, class_count(weights), {}, weights.cutoff);
  const std::vector<PickledModule> modules = pickled_modules(file, network);
  for (const auto& [path, said] : compare_modules(*built, modules, weights.state, weights.file, architecture))
    fail(weights.file, ": ", path, ": ", said.begin()->first, " ", said.begin()->second, " is not what ", architecture,
         " has; classifiers with changed modules are not read");
}

/// A classifier's module has the names of its classes.
std::vector<std::string> names_of(const pickle::Document& d, pickle::Ref network) {
  std::vector<std::string> out;
  const pickle::Ref names = d.get(network, "names");
  if (d.is(names, pickle::Kind::list))
    for (const pickle::Ref name : d[names].items)
      if (d.is(name, pickle::Kind::text)) out.push_back(d[name].text);
  if (d.is(names, pickle::Kind::dict)) {  // {0: "daisy", 1: "rose"}, in whichever order
    std::map<std::int64_t, std::string> numbered;
    for (const auto& [key, name] : d.entries(names))
      if (d.is(key, pickle::Kind::integer) && d.is(name, pickle::Kind::text)) numbered[d[key].integer] = d[name].text;
    for (const auto& [number, name] : numbered) out.push_back(name);
  }
  return out;
}

void read_torch(ClassifierWeights& out) {
  const TorchFile file(out.file);
  refuse_ultralytics(file, file.weights());
  out.state = file.state_dict();
  for (const auto& [name, tensor] : out.state)
    if (name.starts_with("model.") && name.ends_with(".anchors")) return take_detector(out, load_yolo_checkpoint(out.file));
  if (const int layer = classify_layer(out.state); layer >= 0) out.cutoff = layer + 1;
  if (!file.document().is(file.weights(), pickle::Kind::object)) return;
  out.names = names_of(file.document(), file.weights());
  out.architecture = guess_architecture(out.state, out.cutoff);
  check_modules(file, out);
}

/// Takes the widths of the file's tensors where they differ, with fresh weights, and lets an image pass.
void fit(Device& device, Classifier& model, const ClassifierWeights& weights, Seed seed) {
  Widths widths;
  for (const auto& [name, tensor] : weights.state) widths[name] = tensor.shape;
  const Widths built = widths_of(model);
  try {
    fit_widths(model, widths);
    if (widths_of(model) == built) return;
    if (seed) model.draw_weights(Rng(*seed));
    Context context{.device = device};
    const int side = model.smallest_imgsz();
    model.forward(context, {Tensor::zeros(device, {1, side, side, 3}), -1, nullptr});
  } catch (const Error& error) {
    fail(weights.file, ": ", error.what());
  }
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 8;
  const std::vector<std::string> first(names.begin(),
                                       names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kMost)));
  return fmt::format("{}{}", fmt::join(first, ", "),
                     names.size() > kMost ? fmt::format(" and {} more", names.size() - kMost) : "");
}

}  // namespace

ClassifierWeights read_classifier_weights(const std::filesystem::path& file) {
  ClassifierWeights out;
  out.file = file.string();
  reading(file, [&] { is_safetensors(file) ? read_own(out) : read_torch(out); });
  if (out.architecture.empty()) out.architecture = guess_architecture(out.state, out.cutoff);
  return out;
}

int class_count(const ClassifierWeights& weights) {
  std::int64_t rows = static_cast<std::int64_t>(weights.names.size());
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  Device meta(make_meta_backend(*cpu, {}));
  const bool known = !weights.architecture.empty();
  for (const std::string& name : known ? std::vector<std::string>{weights.architecture} : classifier_names()) {
    const auto model = known ? unpruned(meta, weights, 1, {}, weights.cutoff) : make_classifier(meta, name, 1, {});
    const std::string head = model->head().weight.name;
    if (const HostTensor* t = weights.state.find(head)) rows = classes_of(*t, head, weights.file);
  }
  FROST_CHECK(rows > 0, weights.file, ": holds no classifier that is known here");
  return static_cast<int>(rows);
}

std::unique_ptr<Classifier> build_classifier(Device& device, const ClassifierWeights& weights, int classes, Seed seed,
                                             int cutoff) {
  FROST_CHECK(!weights.architecture.empty(), weights.file, ": its tensors fit no known classifier; name it with --model");
  std::unique_ptr<Classifier> model = unpruned(device, weights, classes, seed, cutoff);
  if (weights.own) fit(device, *model, weights, seed);
  return model;
}

std::vector<std::string> take_weights(Classifier& model, const ClassifierWeights& weights, bool new_head) {
  const Linear& head = model.head();
  const std::string head_name = head.name();
  std::vector<std::string> lines;
  std::string fresh = head_name + ".";  // names that stay as they are
  if (weights.detector) {
    fresh = head_name.substr(0, head_name.rfind("linear"));
    lines.push_back(fmt::format("{}: a detector; its layers before {} are taken over, {} is new", weights.file,
                                fresh.substr(0, fresh.size() - 1), fresh + "*"));
  } else {
    const HostTensor* theirs = weights.state.find(head.weight.name);
    const std::int64_t classes = theirs ? classes_of(*theirs, head.weight.name, weights.file) : 0;
    if (!theirs || (classes == head.out && !new_head))
      fresh.clear();  // a head that is not there is missing
    else
      lines.push_back(fmt::format("{}: {} classes in {}, {} here: a new {}.weight and {}.bias", head_name, classes,
                                  weights.file, head.out, head_name, head_name));
  }
  const auto stays = [&](const std::string& name) { return !fresh.empty() && name.starts_with(fresh); };
  LoadReport report = load_state(model, weights.state, stays);
  if (const std::string unread = model.unread(); !unread.empty())
    if (std::erase_if(report.unexpected, [&](const std::string& name) { return name.starts_with(unread); }) > 0)
      lines.push_back(
          fmt::format("{}: {}* is no part of {} here and is not read", weights.file, unread, model.architecture()));
  std::vector<std::string> missing;
  for (const std::string& name : report.missing)  // torchvision's old files have no counters
    if (!name.ends_with("num_batches_tracked")) missing.push_back(name);
  const bool odd = !report.other_shape.empty() || (!weights.detector && !report.unexpected.empty()) || !missing.empty();
  if (odd) {
    std::string trouble;
    if (!missing.empty()) trouble += "; missing: " + listed(missing);
    if (!report.unexpected.empty() && !weights.detector) trouble += "; unexpected: " + listed(report.unexpected);
    if (!report.other_shape.empty()) trouble += "; of another shape: " + listed(report.other_shape);
    fail(weights.file, ": does not fit ", model.architecture(), trouble);
  }
  lines.push_back(fmt::format("Transferred {}/{} items from {}", report.copied, report.total, weights.file));
  return lines;
}

std::unique_ptr<Classifier> load_classifier(Device& device, const std::filesystem::path& file) {
  return classifier_of(device, read_classifier_weights(file));
}

std::unique_ptr<Classifier> classifier_of(Device& device, const ClassifierWeights& weights) {
  FROST_CHECK(!weights.detector, weights.file, ": a detector, not a classifier; classify-train --weights turns it into one");
  std::unique_ptr<Classifier> model = build_classifier(device, weights, class_count(weights), {}, weights.cutoff);
  take_weights(*model, weights);
  if (!weights.names.empty()) {
    FROST_CHECK(static_cast<int>(weights.names.size()) == model->classes(), weights.file, ": ", weights.names.size(),
                " names for ", model->classes(), " classes");
    model->names = weights.names;
  }
  return model;
}

}  // namespace frost::classify
