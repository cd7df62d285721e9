#include "models/zoo/yolo_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "engine/base/input_file.h"
#include "engine/checkpoint/sparse_checkpoint.h"
#include "engine/checkpoint/torch_file.h"

namespace frost {
namespace {

using nlohmann::json;
using pickle::Kind;
using pickle::kNothing;
using pickle::Ref;

std::string last_part(std::string_view symbol) { return std::string(symbol.substr(symbol.rfind('.') + 1)); }

/// Reads one YOLOv5 checkpoint. Every value that is used is checked; what is not used may be anything.
class TorchReader {
 public:
  TorchReader(const std::filesystem::path& path, CheckpointPart part) : file_(path), d_(file_.document()) { read(part); }
  YoloCheckpoint take() { return std::move(out_); }

 private:
  void read(CheckpointPart part) {
    model_ = network(part);
    check_kind();
    out_.state = file_.module_state(model_);
    out_.modules = pickled_modules(file_, model_);
    find_head();
    read_facts();
    read_names();
    visit(model_, "");
    check_head();
    check_finite();
    choose_activation();
    out_.yaml_text = yaml_text();
  }

  // ---- finding the network
  Ref network(CheckpointPart part) {
    const Ref root = file_.root();
    if (d_.is(root, Kind::object)) return file_.unwrapped(root);  // torch.save(model)
    if (!d_.is(root, Kind::dict)) file_.refuse("not a checkpoint: " + file_.describe(root), "the root");
    const auto held = [&](const char* key) {
      const Ref value = d_.get(root, key);
      return d_.is(value, Kind::none) ? kNothing : value;
    };
    const Ref model = held("model"), ema = held("ema");
    if (model == kNothing && ema == kNothing) explain_other_file(root);
    out_.source = ema != kNothing && (part == CheckpointPart::ema_or_model || model == kNothing) ? "ema" : "model";
    const Ref chosen = out_.source == "ema" ? ema : model;
    if (!d_.is(chosen, Kind::object))
      file_.refuse(
          (d_.is(chosen, Kind::dict) ? "a plain state dict" : file_.describe(chosen)) + " instead of a YOLOv5 model",
          out_.source);
    return file_.unwrapped(chosen);
  }

  [[noreturn]] void explain_other_file(Ref root) {
    const auto entries = d_.entries(root);
    const auto tensors =
        std::count_if(entries.begin(), entries.end(), [&](const auto& e) { return d_.is(e.second, Kind::tensor); });
    if (tensors > 0)
      fail(path(), ": a plain state dict of ", tensors, " tensors (", d_[entries.front().first].text,
           ", ...), not a YOLOv5 checkpoint");
    fail(path(), ": not a YOLOv5 checkpoint: neither 'model' nor 'ema' is in it");
  }

  void check_kind() {
    const std::string type(d_.symbol(model_));
    refuse_ultralytics(file_, model_);
    FROST_CHECK(type.starts_with("models."), path(), ": ", type.empty() ? file_.describe(model_) : type,
                " is not a YOLOv5 model");
    FROST_CHECK(type != "models.yolo.ClassificationModel", path(), ": a classification model, not a detector");
    const auto entries = d_.entries(d_.find(model_, "_modules.model._modules"));
    FROST_CHECK(!entries.empty(), path(), ": ", type, " has no layers");
    const std::string_view head_type = d_.symbol(entries.back().second);
    FROST_CHECK(!head_type.ends_with(".Classify"), path(), ": a classification model, not a detector");
    FROST_CHECK(!head_type.ends_with(".Segment"), path(), ": a segmentation model, not a detector");
  }

  void find_head() {
    const auto entries = d_.entries(d_.find(model_, "_modules.model._modules"));
    head_ = entries.back().second;
    head_name_ = "model." + d_[entries.back().first].text;
    if (!d_.is(head_, Kind::object) || !d_.symbol(head_).ends_with(".Detect"))
      file_.refuse(file_.describe(head_) + " instead of Detect", head_name_);
    int index = 0;
    for (const auto& [key, layer] : entries) {
      const Ref from = d_.get(layer, "f");
      for (const double f : d_.numbers(from).value_or(std::vector<double>{}))
        if (f >= index) file_.refuse(fmt::format("layer input {} that is not computed yet", f), "model." + d_[key].text);
      ++index;
    }
  }

  // ---- facts
  int whole(Ref ref, const char* what) {
    const auto value = d_.number(ref);
    FROST_CHECK(value && *value == std::floor(*value) && std::abs(*value) < 1e9, path(), ": ", what, " is ",
                file_.describe(ref), ", not an integer");
    return static_cast<int>(*value);
  }

  void read_facts() {
    const Ref root = d_.is(file_.root(), Kind::dict) ? file_.root() : kNothing;
    out_.nc = whole(d_.get(head_, "nc"), "the head's nc");
    FROST_CHECK(out_.nc > 0, path(), ": a head of ", out_.nc, " classes");
    if (const Ref epoch = d_.get(root, "epoch"); d_.is(epoch, Kind::integer)) out_.epoch = whole(epoch, "epoch");
    if (const auto fitness = d_.numbers(d_.get(root, "best_fitness")); fitness && !fitness->empty())
      out_.best_fitness = fitness->front();
    if (const Ref stride = d_.get(head_, "stride"); d_.is(stride, Kind::tensor))
      out_.head_strides = file_.tensor(stride, head_name_ + ".stride").to_f32();
    if (const Ref stride = d_.get(model_, "stride"); d_.is(stride, Kind::tensor))
      out_.strides = file_.tensor(stride, "stride").to_f32();
    if (out_.strides.empty()) out_.strides = out_.head_strides;
    if (out_.strides.empty()) out_.strides = {32};
    for (const float stride : out_.strides) FROST_CHECK(stride > 0, path(), ": a stride of ", stride);
    for (const auto& [key, value] : d_.entries(d_.get(model_, "hyp")))
      if (const auto number = d_.number(value); number && d_.is(key, Kind::text)) out_.hyp[d_[key].text] = *number;
    if (const Ref file = d_.get(model_, "yaml_file"); d_.is(file, Kind::text)) out_.yaml_file = d_[file].text;
    for (const char* key : {"date", "wandb_id"})
      if (const Ref text = d_.get(root, key); d_.is(text, Kind::text)) out_.metadata[key] = d_[text].text;
    for (const auto& [key, value] : d_.entries(d_.get(root, "git")))
      if (d_.is(key, Kind::text) && d_.is(value, Kind::text)) out_.metadata["git." + d_[key].text] = d_[value].text;
    if (const auto date = out_.metadata.find("date"); date != out_.metadata.end()) out_.date = date->second;
  }

  void read_names() {
    const Ref names = d_.get(model_, "names");
    if (d_.is(names, Kind::list)) {
      for (const Ref name : d_[names].items) {
        d_.spend(sizeof(std::string) + d_[name].text.size());  // one text can be the name of many
        out_.names.push_back(d_.is(name, Kind::text) ? d_[name].text : std::string());
      }
    } else if (d_.is(names, Kind::dict)) {
      std::map<std::int64_t, std::string> sorted;
      for (const auto& [key, name] : d_.entries(names))
        if (d_.is(key, Kind::integer) && d_.is(name, Kind::text)) sorted[d_[key].integer] = d_[name].text;
      for (auto& [index, name] : sorted) {
        FROST_CHECK(index == static_cast<std::int64_t>(out_.names.size()), path(), ": the names have no class ",
                    out_.names.size());
        out_.names.push_back(std::move(name));
      }
    } else {
      for (int i = 0; i < out_.nc; ++i) out_.names.push_back(std::to_string(i));
    }
    FROST_CHECK(static_cast<int>(out_.names.size()) == out_.nc, path(), ": ", out_.names.size(), " names for ", out_.nc,
                " classes");
  }

  // ---- the modules: shapes, activations, batch norm's constants
  void visit(Ref module, const std::string& name) {
    // module_state() visited the same tree before and refused endless ones
    const std::string type = last_part(d_.symbol(module));
    const auto shape_of = [&](const char* parameter) -> const HostTensor* {
      return out_.state.find(name + "." + parameter);
    };
    if (type == "Conv2d" || type == "ConvTranspose2d") {
      if (const auto* weight = shape_of("weight")) check_conv(module, name, weight->shape, type == "ConvTranspose2d");
    } else if (type == "BatchNorm2d") {
      const auto channels = whole(d_.get(module, "num_features"), "num_features");
      for (const char* vector : {"weight", "bias", "running_mean", "running_var"})
        if (const auto* t = shape_of(vector))
          check(t->shape == std::vector<std::int64_t>{channels}, name, ": ", vector, " is ", shape_text(t->shape), ", not ",
                channels);
      const auto eps = d_.number(d_.get(module, "eps")), momentum = d_.number(d_.get(module, "momentum"));
      if (eps) out_.bn_eps = *eps;
      if (momentum) out_.bn_momentum = *momentum;
    }
    for (const auto& [key, child] : d_.entries(d_.get(module, "_modules"))) {
      if (!d_.is(child, Kind::object)) continue;
      const std::string& child_name = d_[key].text;
      if (child_name == "act")
        record_activation(name, type, child);
      else
        visit(child, name.empty() ? child_name : name + "." + child_name);
    }
  }

  void check_conv(Ref module, const std::string& name, const std::vector<std::int64_t>& shape, bool transposed) {
    const int in = whole(d_.get(module, "in_channels"), "in_channels"),
              out = whole(d_.get(module, "out_channels"), "out_channels");
    const int groups = whole(d_.get(module, "groups"), "groups");
    const auto kernel = d_.numbers(d_.get(module, "kernel_size")).value_or(std::vector<double>{});
    check(groups > 0 && kernel.size() == 2, name, ": groups ", groups, " and a kernel of ", kernel.size(), " dimensions");
    const std::vector<std::int64_t> expected = {transposed ? in : out, (transposed ? out : in) / groups,
                                                static_cast<std::int64_t>(kernel[0]), static_cast<std::int64_t>(kernel[1])};
    check(shape == expected, name, ": weight is ", shape_text(shape), ", its module says ", shape_text(expected));
  }

  void record_activation(const std::string& module, const std::string& type, Ref act) {
    const std::string kind = last_part(d_.symbol(act));
    std::string text = "nn." + kind + "()";
    if (kind == "LeakyReLU") text = fmt::format("nn.LeakyReLU({})", d_.number(d_.get(act, "negative_slope")).value_or(0.01));
    out_.activations[module] = text;
    // CSP blocks had LeakyReLU of their own up to v6.0, and Identity marks a Conv that was asked for none
    if (type == "BottleneckCSP")
      ++csp_votes_[text];
    else if (kind != "Identity")
      ++votes_[text];
  }

  void check_head() {
    const int na = whole(d_.get(head_, "na"), "the head's na"), nl = whole(d_.get(head_, "nl"), "the head's nl");
    const HostTensor* anchors = out_.state.find(head_name_ + ".anchors");
    check(anchors, head_name_, ": no anchors");
    check(anchors->shape == std::vector<std::int64_t>{nl, na, 2}, head_name_, ": anchors are ", shape_text(anchors->shape),
          ", not ", nl, "x", na, "x2");
    for (const float a : anchors->to_f32()) check(a > 0 && std::isfinite(a), head_name_, ": an anchor of ", a);
    check(out_.strides.size() == static_cast<std::size_t>(nl) || out_.strides.size() == 1, out_.strides.size(),
          " strides for ", nl, " maps");
    for (int i = 0; i < nl; ++i) {
      const HostTensor* weight = out_.state.find(fmt::format("{}.m.{}.weight", head_name_, i));
      if (!weight) continue;  // v1.0 keeps the output convolutions apart
      check(weight->shape.empty() || na <= 0 || weight->shape[0] % na != 0 ||
                weight->shape[0] == std::int64_t{na} * (out_.nc + 5),
            head_name_, ": the head has ", na > 0 && !weight->shape.empty() ? weight->shape[0] / na : 0,
            " outputs for each anchor instead of 5 + nc = ", 5 + out_.nc,
            ": another head (landmarks of yolov5-face, a fork), which is not read");
      check(!weight->shape.empty() && weight->shape[0] == std::int64_t{na} * (out_.nc + 5), head_name_, ": output ", i,
            " is ", shape_text(weight->shape), ", needs ", na * (out_.nc + 5), " rows");
    }
  }

  void check_finite() {
    for (const auto& [name, tensor] : out_.state)
      if (!tensor.all_finite()) out_.warnings.push_back(name + " holds NaN or Inf");
  }

  // ---- the graph
  void choose_activation() {
    const auto most = [](const std::map<std::string, int>& votes) {
      const auto found =
          std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
      return found != votes.end() && found->first != "nn.SiLU()" ? found->first : std::string();
    };
    activation_ = most(votes_);
    csp_activation_ = most(csp_votes_);
  }

  std::string yaml_text() {
    const Ref yaml = d_.get(model_, "yaml");
    if (!d_.is(yaml, Kind::dict)) file_.refuse(file_.describe(yaml) + " instead of the model's YAML", "model.yaml");
    std::string text;
    bool has_activation = false;
    for (const auto& [key, value] : d_.entries(yaml)) {
      const std::string name = d_.is(key, Kind::text) ? d_[key].text : std::string();
      if (name == "nc") {
        text += fmt::format("nc: {}\n", out_.nc);  // the head's number counts, not that of its YAML
      } else if (d_.is(value, Kind::list) && !d_[value].items.empty()) {
        text += name + ":\n";
        for (const Ref row : d_[value].items) text += "  - " + flow(row, name, 0) + "\n";
      } else {
        text += name + ": " + flow(value, name, 0) + "\n";
      }
      has_activation |= name == "activation" && !d_.is(value, Kind::none);
    }
    for (const char* key : {"nc", "depth_multiple", "width_multiple", "anchors", "backbone", "head"})
      if (d_.get(yaml, key) == kNothing) fail(path(), ": the model's YAML has no ", key);
    if (!has_activation && !activation_.empty()) text += "activation: " + activation_ + "\n";
    if (!csp_activation_.empty() && d_.get(yaml, "csp_activation") == kNothing)
      text += "csp_activation: " + csp_activation_ + "\n";
    return text;
  }

  /// A value in YAML's flow style, as YOLOv5's own files are written.
  std::string flow(Ref ref, const std::string& where, int depth) {
    if (depth > 16) file_.refuse("lists nested without end", "model.yaml: " + where);
    const auto& v = d_[ref];
    // One list can be an item of many: what is written is counted while it grows. YOLOv5's own YAMLs have up to 3 kB.
    const std::size_t cost = 4 + v.text.size();
    if (cost > yaml_left_)
      file_.refuse(fmt::format("more than {} bytes of text", kYamlText), "model.yaml: " + shortened(where));
    yaml_left_ -= cost;
    switch (v.kind) {
      case Kind::none:
        return "null";
      case Kind::boolean:
        return v.integer ? "True" : "False";
      case Kind::integer:
        return std::to_string(v.integer);
      case Kind::text:
        return quoted(v.text);
      case Kind::list:
      case Kind::tuple: {
        std::string text;
        for (const Ref item : v.items) text += (text.empty() ? "" : ", ") + flow(item, where, depth + 1);
        return "[" + text + "]";
      }
      default:
        if (const auto number = d_.number(ref)) return fmt::format("{}", *number);
        file_.refuse(file_.describe(ref), "model.yaml: " + where);
    }
  }

  /// Plain where YAML reads it back as the same text; `None` and `nc` are such texts, `null` and `True` are not.
  static std::string quoted(const std::string& text) {
    static const std::set<std::string> words = {"null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE",
                                                "yes",  "Yes",  "YES",  "no",   "No",   "NO",   "on",    "On",    "ON",
                                                "off",  "Off",  "OFF",  "y",    "Y",    "n",    "N"};
    const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.' || c == '(' || c == ')'; };
    const bool word = !text.empty() && (std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '_');
    if (word && std::all_of(text.begin(), text.end(), plain) && !words.count(text)) return text;
    return json(text).dump();
  }

  std::string path() const { return file_.path().string(); }
  template <class... Parts>
  void check(bool fine, const Parts&... parts) const {
    if (!fine) fail(path(), ": ", parts...);
  }

  static constexpr std::size_t kYamlText = std::size_t{1} << 20;
  std::size_t yaml_left_ = kYamlText;
  TorchFile file_;
  const pickle::Document& d_;
  Ref model_ = kNothing, head_ = kNothing;
  std::string head_name_, activation_, csp_activation_;
  std::map<std::string, int> votes_, csp_votes_;
  YoloCheckpoint out_;
};

// ---- frost's own file

/// Metadata are texts; the ones that hold JSON are read here, with the file and the key in every error.
class MetadataReader {
 public:
  MetadataReader(std::string path, const Metadata& metadata) : path_(std::move(path)), metadata_(metadata) {}

  const std::string* text(const char* key) const {
    const auto it = metadata_.find(key);
    return it == metadata_.end() ? nullptr : &it->second;
  }
  template <class T>
  void read(const char* key, T& value) const {
    const std::string* json_text = text(key);
    if (!json_text) return;
    try {
      value = json::parse(*json_text).get<T>();
    } catch (const json::exception&) {
      fail(path_, ": metadata ", key, " cannot be read: ", json_text->substr(0, 60));
    }
  }
  void read_text(const char* key, std::string& value) const {
    if (const std::string* known = text(key)) value = *known;
  }

 private:
  std::string path_;
  const Metadata& metadata_;
};

YoloCheckpoint load_own(const std::filesystem::path& path, CheckpointPart part) {
  namespace key = checkpoint_key;
  SafetensorsFile file = read_checkpoint(path);
  YoloCheckpoint out;
  const MetadataReader metadata(path.string(), file.metadata);
  FROST_CHECK(metadata.text(key::yaml), path.string(), ": no ", key::yaml, " in its metadata: not a checkpoint of frost");
  metadata.read_text(key::yaml, out.yaml_text);
  metadata.read_text(key::yaml_file, out.yaml_file);
  metadata.read_text(key::date, out.date);
  metadata.read(key::names, out.names);
  metadata.read(key::stride, out.strides);
  metadata.read(key::hyp, out.hyp);
  metadata.read(key::epoch, out.epoch);
  metadata.read(key::best_fitness, out.best_fitness);
  metadata.read(key::bn_eps, out.bn_eps);
  metadata.read(key::bn_momentum, out.bn_momentum);
  FROST_CHECK(!out.names.empty(), path.string(), ": no class names in its metadata");
  out.nc = static_cast<int>(out.names.size());

  StateDict ema = part == CheckpointPart::ema_or_model ? file.tensors.below(key::ema_prefix) : StateDict();
  out.source = ema.empty() ? "model" : "ema";
  if (ema.empty()) {
    for (const auto& [name, tensor] : file.tensors)
      if (name.starts_with("model.")) out.state.add(name, tensor);
  } else {
    out.state = std::move(ema);
  }
  FROST_CHECK(!out.state.empty(), path.string(), ": holds no tensor of the model");
  out.metadata = std::move(file.metadata);
  return out;
}

/// A torch file begins as a zip or a pickle; a safetensors file with its header's length and a brace.
bool looks_like_safetensors(const std::filesystem::path& path) {
  if (path.extension() == ".safetensors") return true;
  constexpr int kStart = 9;
  const FileBytes start(InputFile(path), kStart);
  const auto bytes = start.bytes();
  return bytes.size() == kStart && bytes[8] == std::byte{'{'} && bytes[7] == std::byte{0};
}

}  // namespace

void refuse_ultralytics(const TorchFile& file, pickle::Ref model) {
  const std::string type(file.document().symbol(model));
  FROST_CHECK(!type.starts_with("ultralytics."), file.path().string(), ": written by the ultralytics package (", type,
              "); only checkpoints of the yolov5 repository are read");
}

YoloCheckpoint load_yolo_checkpoint(const std::filesystem::path& path, CheckpointPart part) {
  return reading(path, [&] { return looks_like_safetensors(path) ? load_own(path, part) : TorchReader(path, part).take(); });
}

Metadata metadata_of(const YoloCheckpoint& c) {
  namespace key = checkpoint_key;
  Metadata m = c.metadata;
  m[key::format] = "1";
  m[key::yaml] = c.yaml_text;
  m[key::yaml_file] = c.yaml_file;
  m[key::names] = json(c.names).dump();
  m[key::stride] = json(c.strides).dump();
  m[key::hyp] = json(c.hyp).dump();
  m[key::epoch] = std::to_string(c.epoch);
  m[key::best_fitness] = json(c.best_fitness).dump();
  m[key::bn_eps] = json(c.bn_eps).dump();
  m[key::bn_momentum] = json(c.bn_momentum).dump();
  m[key::date] = c.date;
  return m;
}

void save_yolo_checkpoint(const std::filesystem::path& path, const YoloCheckpoint& checkpoint, const StateDict& extra) {
  StateDict all = checkpoint.state;
  for (const auto& [name, tensor] : extra) all.add(name, tensor);
  write_checkpoint(path, all, metadata_of(checkpoint));
}

}  // namespace frost
