#include "models/graph/model_spec.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "kernels/error.h"
#include "models/graph/builtin_files.h"

namespace frost {
namespace {

template <class T>
T required(const YAML::Node& root, const char* key, const std::string& name) {
  const YAML::Node node = root[key];
  FROST_CHECK(node && !node.IsNull(), name, ": key '", key, "' is missing");
  try {
    return node.as<T>();
  } catch (const YAML::Exception&) {
    fail(name, ": key '", key, "' has a value that does not fit");
  }
}

LayerSpec parse_row(const YAML::Node& row, int index, const ModelSpec& spec) {
  const std::string where = detail::join(spec.name, ": layer ", index);
  FROST_CHECK(row.IsSequence() && row.size() == 4 && row[3].IsSequence(), where, ": expected [from, number, module, args]");
  LayerSpec layer;
  layer.index = index;
  try {
    layer.from_is_list = row[0].IsSequence();
    layer.from = layer.from_is_list ? row[0].as<std::vector<int>>() : std::vector<int>{row[0].as<int>()};
    const int number = row[1].as<int>();
    layer.number = number > 1 ? std::max(static_cast<int>(std::nearbyint(number * spec.depth_multiple)), 1) : number;
    layer.module = row[2].as<std::string>();
  } catch (const YAML::Exception&) {
    fail(where, ": expected [from, number, module, args] with numbers in the first two places");
  }
  FROST_CHECK(layer.number >= 1 && layer.number <= 1000, where, ": ", layer.number, " repeats");
  FROST_CHECK(!layer.from.empty(), where, ": an empty 'from'");
  for (const int f : layer.from)
    FROST_CHECK(f < index && (f >= 0 || index + f >= (f == -1 ? -1 : 0)), where, ": 'from' ", f, " names no earlier layer");
  for (const YAML::Node& arg : row[3]) layer.args.push_back(arg);
  return layer;
}

}  // namespace

Activation parse_activation(const std::string& text, const std::string& where) {
  // "nn.LeakyReLU(0.1)": prefixes, a name, and arguments of which only a leading number counts.
  std::string kind = text, arguments;
  for (const char* prefix : {"torch.", "nn."})
    if (kind.starts_with(prefix)) kind.erase(0, std::string(prefix).size());
  if (const auto open = kind.find('('); open != std::string::npos) {
    FROST_CHECK(kind.ends_with(')'), where, ": activation '", text, "' is not understood");
    arguments = kind.substr(open + 1, kind.size() - open - 2);
    kind.erase(open);
  }
  if (kind == "SiLU") return {ActivationKind::silu};
  if (kind == "ReLU") return {ActivationKind::relu};
  if (kind == "Hardswish") return {ActivationKind::hardswish};
  if (kind == "Sigmoid") return {ActivationKind::sigmoid};
  if (kind == "Identity") return {ActivationKind::identity};
  FROST_CHECK(kind == "LeakyReLU", where, ": activation '", text,
              "' is not one of SiLU, ReLU, LeakyReLU, Hardswish, Sigmoid, Identity");
  char* end = nullptr;
  const float slope = std::strtof(arguments.c_str(), &end);
  const bool given = end != arguments.c_str();
  FROST_CHECK(!given || std::isfinite(slope), where, ": activation '", text, "' has a slope that is not a number");
  return {ActivationKind::leaky_relu, given ? slope : 0.01f};
}

ModelSpec parse_model_yaml(const std::string& text, const std::string& name, std::optional<int> classes,
                           std::optional<int> anchors_each) {
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    fail(name, ":", e.mark.line + 1, ": not valid YAML: ", e.msg);
  }
  FROST_CHECK(root.IsMap(), name,
              ": not a model YAML (expected nc, depth_multiple, width_multiple, anchors, backbone, head)");
  ModelSpec spec;
  spec.name = name;
  spec.classes = classes ? *classes : required<int>(root, "nc", name);
  FROST_CHECK(spec.classes >= 1 && spec.classes <= 100000, name, ": nc ", spec.classes);
  spec.depth_multiple = required<double>(root, "depth_multiple", name);
  spec.width_multiple = required<double>(root, "width_multiple", name);
  FROST_CHECK(spec.depth_multiple > 0 && spec.depth_multiple < 100 && spec.width_multiple > 0 && spec.width_multiple < 100,
              name, ": depth_multiple and width_multiple must be positive");
  if (root["ch"] && !root["ch"].IsNull()) spec.channels = required<int>(root, "ch", name);
  FROST_CHECK(spec.channels >= 1 && spec.channels <= 1024, name, ": ch ", spec.channels);
  if (const YAML::Node node = root["activation"]; node && !node.IsNull()) {
    spec.activation_text = node.as<std::string>();
    spec.activation = parse_activation(spec.activation_text, name);
  }
  if (anchors_each) root["anchors"] = *anchors_each;
  const YAML::Node anchors = root["anchors"];
  FROST_CHECK(anchors && !anchors.IsNull(), name, ": key 'anchors' is missing");
  if (anchors.IsScalar()) {
    spec.anchors_each = static_cast<int>(std::nearbyint(required<double>(root, "anchors", name)));
    FROST_CHECK(spec.anchors_each >= 1 && spec.anchors_each <= 100, name, ": anchors ", spec.anchors_each);
  } else {
    spec.anchors = required<std::vector<std::vector<float>>>(root, "anchors", name);
    FROST_CHECK(!spec.anchors.empty() && !spec.anchors[0].empty(), name, ": 'anchors' is empty");
    for (const auto& level : spec.anchors) {
      FROST_CHECK(level.size() == spec.anchors[0].size() && level.size() % 2 == 0, name,
                  ": each anchor list needs the same even count of numbers");
      for (const float value : level) FROST_CHECK(std::isfinite(value), name, ": an anchor that is not a number");
    }
  }
  for (const char* part : {"backbone", "head"}) {
    const YAML::Node rows = root[part];
    FROST_CHECK(rows && rows.IsSequence(), name, ": '", part, "' is not a list of layers");
    for (const YAML::Node& row : rows) spec.layers.push_back(parse_row(row, static_cast<int>(spec.layers.size()), spec));
    if (spec.backbone == 0) spec.backbone = static_cast<int>(spec.layers.size());
  }
  FROST_CHECK(!spec.layers.empty(), name, ": no layers");
  if (root["nc"].as<int>(-1) != spec.classes) root["nc"] = spec.classes;
  YAML::Emitter out;
  out << root;
  spec.text = out.c_str();
  return spec;
}

ModelSpec load_model_spec(const std::string& path_or_name, std::optional<int> classes, std::optional<int> anchors_each) {
  namespace fs = std::filesystem;
  if (fs::is_regular_file(path_or_name)) {
    std::ifstream in(path_or_name);
    FROST_CHECK(in, path_or_name, ": cannot be read");
    std::stringstream text;
    text << in.rdbuf();
    return parse_model_yaml(text.str(), path_or_name, classes, anchors_each);
  }
  const std::string file = fs::path(path_or_name).filename().string();
  for (const std::string& name : {file, file + ".yaml"})
    if (const auto text = builtin_file(name)) return parse_model_yaml(std::string(*text), name, classes, anchors_each);
  fail("model file not found: ", path_or_name,
       " (neither a file nor one of the models that frost carries, such as yolov5n.yaml)");
}

}  // namespace frost
