#include "models/graph/model_yaml.h"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>

#include "engine/base/input_file.h"
#include "engine/base/yaml_file.h"
#include "kernels/error.h"
#include "models/graph/activation_text.h"
#include "models/graph/builtin_files.h"
#include "models/graph/registry.h"

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

/// `rounds`: others are rounded, as YOLOv5 does with `anchors`.
int whole(const YAML::Node& root, const char* key, const std::string& name, int least, int most, bool rounds = false) {
  const YAML::Node node = root[key];
  FROST_CHECK(node && !node.IsNull(), name, ": key '", key, "' is missing");
  double value = 0;
  const bool number = node.IsScalar() && YAML::convert<double>::decode(node, value);
  const double near = std::nearbyint(value);
  FROST_CHECK(number && (rounds || near == value) && near >= least && near <= most, name, ": ", key, " is ",
              node.IsScalar() ? node.Scalar().substr(0, 40) : "no number", ", expected a whole number from ", least, " to ",
              most);
  return static_cast<int>(near);
}

/// What would make every other message point at the wrong place: modules that are not known, and the marks of another
/// project's files. Then how much the rows ask for together.
void check_rows(const YAML::Node& root, const std::string& name) {
  int index = 0;
  std::size_t inputs = 0;
  for (const char* part : {"backbone", "head"})
    for (const YAML::Node& row : root[part]) {
      FROST_CHECK(index < GraphBudget::kModules, name, ": more than ", GraphBudget::kModules, " layers");
      if (row.IsSequence() && row.size() > 2 && row[2].IsScalar()) check_module_name(name, index, row[2].Scalar());
      if (row.IsSequence() && row.size() > 0) inputs += row[0].size();
      FROST_CHECK(inputs <= GraphBudget::kInputs, name, ": layer ", index, ": more than ", GraphBudget::kInputs,
                  " inputs up to here");
      ++index;
    }
  FROST_CHECK(!root["scales"] || root["anchors"], name,
              ": 'scales' without 'anchors': models of the ultralytics package (v8 and later) are not read");
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
    FROST_CHECK(number >= 1 && number <= 1000, where, ": ", number, " repeats, expected 1 to 1000");
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

ModelSpec parse_model_yaml(const std::string& text, const std::string& name, std::optional<int> classes,
                           std::optional<int> anchors_each) {
  ModelSpec spec;
  YAML::Node root = parse_yaml(text, name, &spec.warnings);
  FROST_CHECK(root.IsMap(), name,
              ": not a model YAML (expected nc, depth_multiple, width_multiple, anchors, backbone, head)");
  check_rows(root, name);
  spec.name = name;
  if (classes) root["nc"] = *classes;
  spec.classes = whole(root, "nc", name, 1, 100000);
  spec.depth_multiple = required<double>(root, "depth_multiple", name);
  spec.width_multiple = required<double>(root, "width_multiple", name);
  FROST_CHECK(spec.depth_multiple > 0 && spec.depth_multiple < 100 && spec.width_multiple > 0 && spec.width_multiple < 100,
              name, ": depth_multiple and width_multiple must be above 0 and below 100");
  if (root["ch"] && !root["ch"].IsNull()) spec.channels = whole(root, "ch", name, 1, 1024);
  if (const YAML::Node node = root["activation"]; node && !node.IsNull()) {
    spec.activation_text = node.as<std::string>();
    spec.activation = parse_activation(spec.activation_text, name);
  }
  if (const YAML::Node node = root["csp_activation"]; node && !node.IsNull())
    spec.csp_activation = parse_activation(node.as<std::string>(), name);
  if (anchors_each) root["anchors"] = *anchors_each;
  const YAML::Node anchors = root["anchors"];
  FROST_CHECK(anchors && !anchors.IsNull(), name, ": key 'anchors' is missing");
  if (anchors.IsScalar()) {
    spec.anchors_each = whole(root, "anchors", name, 1, 100, true);
  } else {
    spec.anchors = required<std::vector<std::vector<float>>>(root, "anchors", name);
    FROST_CHECK(!spec.anchors.empty() && !spec.anchors[0].empty(), name, ": 'anchors' is empty");
    for (const auto& level : spec.anchors) {
      FROST_CHECK(level.size() == spec.anchors[0].size() && level.size() % 2 == 0, name,
                  ": each anchor list needs the same even count of numbers");
      for (const float value : level)
        FROST_CHECK(std::isfinite(value) && value > 0, name, ": anchors hold ", value, ", expected pixels above 0");
    }
  }
  for (const char* part : {"backbone", "head"}) {
    const YAML::Node rows = root[part];
    FROST_CHECK(rows && rows.IsSequence(), name, ": '", part, "' is not a list of layers");
    for (const YAML::Node& row : rows) spec.layers.push_back(parse_row(row, static_cast<int>(spec.layers.size()), spec));
    if (spec.backbone == 0) spec.backbone = static_cast<int>(spec.layers.size());
  }
  FROST_CHECK(!spec.layers.empty(), name, ": no layers");
  if (const YAML::Node modules = root["modules"]; modules && !modules.IsNull()) {
    FROST_CHECK(modules.IsMap(), name, ": 'modules' is not a map of module names");
    for (const auto& module : modules) {
      FROST_CHECK(module.second.IsMap(), name, ": modules: ", module.first.Scalar(), " is not a map of attributes");
      for (const auto& attribute : module.second) {
        std::string value = attribute.second.IsSequence() ? "["
                            : attribute.second.IsNull()   ? "null"
                                                          : attribute.second.Scalar();
        for (const YAML::Node& item : attribute.second) value += (value.size() > 1 ? ", " : "") + item.Scalar();
        if (attribute.second.IsSequence()) value += "]";
        spec.modules[module.first.Scalar()][attribute.first.Scalar()] = value;
      }
    }
  }
  if (root["nc"].as<int>(-1) != spec.classes) root["nc"] = spec.classes;
  YAML::Emitter out;
  out << root;
  spec.text = out.c_str();
  return spec;
}

ModelSpec load_model_spec(const std::string& path_or_name, std::optional<int> classes, std::optional<int> anchors_each) {
  namespace fs = std::filesystem;
  if (names_a_file(path_or_name)) return parse_model_yaml(read_text(path_or_name), path_or_name, classes, anchors_each);
  std::string name = fs::path(path_or_name).filename().string();
  if (!name.ends_with(".yaml")) name += ".yaml";  // the spec's name is the file's: checkpoints and summaries say it
  if (const auto text = builtin_file(name)) return parse_model_yaml(std::string(*text), name, classes, anchors_each);
  FROST_CHECK(!fs::is_directory(path_or_name), path_or_name, ": is a folder, not a file");
  fail("model file not found: ", path_or_name,
       " (neither a file nor one of the models that frost carries, such as yolov5n.yaml)");
}

}  // namespace frost
