#include "models/yolo/data/data_config.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <filesystem>
#include <map>

#include "engine/base/yaml_file.h"
#include "kernels/error.h"

namespace frost::yolo {
namespace {
namespace fs = std::filesystem;

constexpr int kMostClasses = 1 << 20;  // a larger class number is a typing error, not a class

std::string resolved(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::weakly_canonical(path, error);
  if (error) real = fs::absolute(path).lexically_normal();
  std::string text = real.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

bool present(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

YAML::Node parse(const std::string& file, std::vector<std::string>& warnings) {
  std::error_code error;
  FROST_CHECK(present(file), "Dataset file '", file, "' does not exist");
  FROST_CHECK(!fs::is_directory(file, error), "Dataset file '", file, "' is a folder; a .yaml file is expected");
  return load_yaml(file, &warnings, "names");  // a class has one name
}

std::string text_of(const YAML::Node& node, const std::string& file, const std::string& key) {
  FROST_CHECK(node.IsScalar(), file, ":", node.Mark().line + 1, ": '", key, ":' must be text");
  return node.Scalar();
}

struct Entry {
  std::vector<std::string> values;
  bool list = false;
};

Entry entry(const YAML::Node& yaml, const std::string& file, const std::string& key) {
  const YAML::Node node = yaml[key];
  Entry result;
  if (!node || node.IsNull()) return result;
  if (node.IsSequence()) {
    result.list = true;
    for (const auto& item : node) result.values.push_back(text_of(item, file, key));
  } else {
    result.values.push_back(text_of(node, file, key));
  }
  return result;
}

std::vector<std::string> under(const fs::path& root, const Entry& entry) {
  std::vector<std::string> paths;
  for (const std::string& value : entry.values) {
    if (value.empty()) continue;
    std::string path = resolved(root / value);
    if (!entry.list && !present(path) && value.starts_with("../")) path = resolved(root / value.substr(3));
    paths.push_back(std::move(path));
  }
  return paths;
}

std::vector<std::string> missing_of(const std::vector<std::string>& paths) {
  std::vector<std::string> missing;
  for (const std::string& path : paths)
    if (!present(path)) missing.push_back(path);
  return missing;
}

fs::path find_root(const std::string& file, const std::string& path, const Entry& val) {
  const fs::path beside = fs::absolute(fs::path(file)).parent_path() / path, here = fs::current_path() / path;
  for (const fs::path& root : {beside, here})  // an absolute `path` replaces what is before it
    if (present(root) && missing_of(under(root, val)).empty()) return resolved(root);
  return resolved(present(beside) ? beside : here);
}

std::vector<std::string> class_names(const YAML::Node& node, const std::string& file) {
  std::vector<std::string> names;
  if (node.IsSequence()) {
    for (const auto& item : node) names.push_back(text_of(item, file, "names"));
  } else if (node.IsMap()) {
    std::map<int, std::string> by_class;
    for (const auto& item : node) {
      const std::string key = item.first.IsScalar() ? item.first.Scalar() : "?";
      int id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      // A quoted "2" is text to YAML, as it is to YOLOv5.
      FROST_CHECK(error == std::errc() && end == key.data() + key.size() && item.first.Tag() != "!", file, ":",
                  item.first.Mark().line + 1, ": names keys must be integers, i.e. 2: car, not '", key, "'");
      FROST_CHECK(id >= 0 && id < kMostClasses, file, ":", item.first.Mark().line + 1, ": class ", id,
                  " in names is out of range");
      FROST_CHECK(by_class.emplace(id, text_of(item.second, file, "names")).second, file, ":", item.first.Mark().line + 1,
                  ": class ", id, " has two names");
    }
    for (const auto& [id, name] : by_class) {
      FROST_CHECK(id == static_cast<int>(names.size()), file, ": names have no class ", names.size(), " but a class ", id,
                  "; classes are numbered from 0 without gaps");
      names.push_back(name);
    }
  } else if (!node.IsNull()) {
    fail(file, ":", node.Mark().line + 1, ": 'names:' must be a list, or a map like 0: person");
  }
  FROST_CHECK(!names.empty(), file, ": 'names:' is empty; at least one class is needed");
  return names;
}

/// YOLOv5 fetches an address, or runs a line of bash or a script of Python.
std::string download_hint(const std::string& download) {
  const std::string line = download.substr(0, download.find_first_of("\r\n"));
  if (download.find_first_not_of(" \t\r\n") == std::string::npos) return "";
  if (line.starts_with("http://") || line.starts_with("https://") || line.starts_with("bash "))
    return "; frost does not download data sets: get it from " + line;
  return "; it has a download script, which frost does not run";
}

}  // namespace

const std::vector<std::string>& DataConfig::split(const std::string& key) const {
  const std::vector<std::string>& paths = key == "train" ? train : key == "test" ? test : val;
  FROST_CHECK(!paths.empty(), yaml, ": key '", key, "' is missing or empty");
  return paths;
}

bool DataConfig::is_coco() const { return val.size() == 1 && val[0].ends_with("coco/val2017.txt"); }

DataConfig load_data_config(const std::string& file, bool must_exist) {
  DataConfig config;
  const YAML::Node yaml = parse(file, config.warnings);
  FROST_CHECK(yaml.IsMap(), file, ": not a dataset file: keys 'train:', 'val:' and 'names:' are expected");
  for (const char* key : {"train", "val", "names"}) FROST_CHECK(yaml[key], file, " '", key, ":' field missing ❌");

  config.yaml = file;
  config.names = class_names(yaml["names"], file);
  if (const YAML::Node download = yaml["download"]; download && download.IsScalar()) config.download = download.Scalar();

  std::string path;
  if (const YAML::Node node = yaml["path"]; node && !node.IsNull()) path = text_of(node, file, "path");
  const Entry train = entry(yaml, file, "train"), val = entry(yaml, file, "val"), test = entry(yaml, file, "test");
  config.root = find_root(file, path, val);
  config.train = under(config.root, train);
  config.val = under(config.root, val);
  config.test = under(config.root, test);

  if (const auto missing = missing_of(config.val); must_exist && !missing.empty()) {
    std::string list;
    for (const std::string& item : missing) list += (list.empty() ? "'" : ", '") + item + "'";
    fail("Dataset not found ❌ ", file, ": missing paths [", list, "]", download_hint(config.download));
  }
  return config;
}

}  // namespace frost::yolo
