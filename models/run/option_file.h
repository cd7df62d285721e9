#pragma once
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "engine/autograd/ops.h"
#include "engine/base/atomic_file.h"
#include "engine/base/input_file.h"
#include "engine/base/yaml_file.h"
#include "engine/optim/optimizer.h"

/// A tool's options as the line it prints and as its run's opt.yaml. A family's config has one function beside it, found by
/// its argument, that names every option once, in YOLOv5's order:
///
///     template <class Config, class F> void each_option(Config& c, F&& f) { f("weights", c.weights), f("data", c.data); }
namespace frost::run {

namespace detail {

inline std::string text_of(bool value) { return value ? "true" : "false"; }
inline std::string text_of(int value) { return std::to_string(value); }
inline std::string text_of(double value) { return fmt::format("{}", value); }
inline std::string text_of(std::uint64_t value) { return std::to_string(value); }
inline std::string text_of(const std::string& value) { return value; }
inline std::string text_of(const std::filesystem::path& value) { return value.string(); }
inline std::string text_of(OptimizerKind value) { return name_of(value); }
inline std::string text_of(FrozenBn value) { return value == FrozenBn::batch ? "batch" : "running"; }
inline std::string text_of(const std::vector<std::string>& value) { return fmt::format("[{}]", fmt::join(value, ", ")); }

inline void read(const YAML::Node& node, std::filesystem::path& value) { value = node.as<std::string>(); }
inline void read(const YAML::Node& node, OptimizerKind& value) { value = parse_optimizer(node.as<std::string>()); }
inline void read(const YAML::Node& node, FrozenBn& value) {
  value = node.as<std::string>() == "batch" ? FrozenBn::batch : FrozenBn::running;
}
template <class T>
void read(const YAML::Node& node, T& value) {
  value = node.as<T>();
}

inline std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char ch : text) out += ch == '\'' ? std::string("''") : std::string(1, ch);
  return out + "'";
}
inline std::string yaml_of(const std::string& value) { return quoted(value); }
inline std::string yaml_of(const std::filesystem::path& value) { return quoted(value.string()); }
inline std::string yaml_of(const std::vector<std::string>& value) {  // numbers as YOLOv5 writes them: freeze: [0]
  std::vector<std::string> items;
  for (const std::string& item : value)
    items.push_back(item.find_first_not_of("0123456789") == std::string::npos && !item.empty() ? item : quoted(item));
  return fmt::format("[{}]", fmt::join(items, ", "));
}
template <class T>
std::string yaml_of(const T& value) {
  return text_of(value);
}

}  // namespace detail

/// Calls `f` with the name of each option and its value as a person would type it, for a list with each of its values.
template <class Config, class F>
void each_text(const Config& config, F&& f) {
  each_option(config, [&](const char* key, const auto& value) {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::vector<std::string>>)
      for (const std::string& item : value) f(key, item);
    else
      f(key, detail::text_of(value));
  });
}

/// "weights=yolov5s.pt, cfg=, data=..., ...": what a tool prints first.
template <class Config>
std::string options_line(const Config& config) {
  std::vector<std::string> parts;
  each_option(config, [&](const char* key, const auto& value) {
    parts.push_back(fmt::format("{}={}", key, detail::text_of(value)));
  });
  return fmt::format("{}", fmt::join(parts, ", "));
}

/// The id of a run among others in its folder: a hash of the options that influence its weights, and of `values`, what is
/// behind those that name a file. Two runs of one id differ only where other files (data, start weights) have changed.
template <class Config>
std::string id_of(const Config& config, const std::string& values = {}) {
  std::string text = values;
  each_option(config, [&](const std::string& key, const auto& value) {
    const auto no_weights = {"project", "name",  "exist_ok",       "resume",     "device",    "precision",
                             "workers", "cache", "cache_features", "cuda_graph", "recompute", "noplots",
                             "nosave",  "noval", "save_period",    "patience",   "verbose",   "strict"};
    if (std::ranges::find(no_weights, key) == no_weights.end()) text += key + ": " + detail::yaml_of(value) + "\n";
  });
  return fmt::format("{:016x}", std::hash<std::string>()(text));
}

/// opt.yaml of a run, atomically: the tool, all options, then the run's folder.
template <class Config>
void write_options(const std::filesystem::path& file, const Config& config, const std::filesystem::path& run_folder) {
  std::string text = fmt::format("tool: {}\n", Config::kTool);
  each_option(config,
              [&](const char* key, const auto& value) { text += fmt::format("{}: {}\n", key, detail::yaml_of(value)); });
  text += fmt::format("save_dir: {}\n", detail::quoted(run_folder.string()));
  write_file_atomically(file, std::as_bytes(std::span(text)));
}

/// The options of an earlier run, to resume it; those that `taken` names are `given`'s. Throws Error naming the file and the
/// key, also for another tool's run and for a file that is cut off.
template <class Config>
Config read_options(const std::filesystem::path& file, const Config& given = {},
                    const std::vector<std::string>& taken = {}) {
  FROST_CHECK(std::filesystem::exists(file), file.string(),
              ": not found; --resume needs the run's folder with its opt.yaml");
  YAML::Node root = load_yaml(file, nullptr);
  FROST_CHECK(root.IsMap(), file.string(), ": is no list of options");
  if (const YAML::Node tool = root["tool"]) {  // older files do not say
    FROST_CHECK(tool.IsScalar() && tool.Scalar() == Config::kTool, file.string(), ": a run of ",
                tool.IsScalar() ? tool.Scalar() : "another tool", ", not of ", Config::kTool);
    FROST_CHECK(root["save_dir"] && root["save_dir"].IsScalar(), file.string(),
                ": cut off: save_dir, its last line, is missing");
  }
  each_option(given, [&](const char* key, const auto& value) {
    if (std::ranges::find(taken, key) != taken.end()) root[key] = YAML::Load(detail::yaml_of(value));
  });
  Config config;
  each_option(config, [&](const char* key, auto& value) {
    const YAML::Node node = root[key];
    if (!node || node.IsNull()) return;
    try {
      detail::read(node, value);
    } catch (const YAML::Exception&) {
      fail(file.string(), ": '", key, "' has a value that does not fit");
    }
  });
  return config;
}

/// The run that a checkpoint FOLDER/weights/NAME is of, as an absolute path.
inline std::filesystem::path folder_of(const std::filesystem::path& checkpoint) {
  return std::filesystem::absolute(checkpoint).parent_path().parent_path();
}

/// --resume: exchanges `config`, which names a run's weights/last.safetensors, for the options of that run, wherever this is
/// called, but for those that `config.resume_with` names; the file's name becomes absolute. Returns the run's folder; "" for
/// a new run.
template <class Config>
std::filesystem::path load_resume(Config& config) {
  if (config.resume.empty()) return {};
  const std::filesystem::path last = std::filesystem::absolute(config.resume), folder = folder_of(last);
  std::error_code error;
  FROST_CHECK(std::filesystem::exists(last, error) || !std::filesystem::exists(folder / "opt.yaml", error), config.resume,
              ": not found; the run there ended before an epoch of it was saved: start it again without --resume");
  InputFile{last};  // refuses what is no file before the run's options are looked for
  config = read_options(folder / "opt.yaml", config, config.resume_with);
  config.resume = last.string();
  return folder;
}

/// opt.yaml of a new run in its folder; those of `paths` that exist become absolute, so that the run can be resumed from
/// anywhere.
template <class Config>
void save_options(Config config, const std::filesystem::path& run_folder,
                  std::initializer_list<std::string Config::*> paths) {
  for (std::string Config::*path : paths)
    if (!(config.*path).empty() && std::filesystem::exists(config.*path))
      config.*path = std::filesystem::absolute(config.*path).string();
  write_options(run_folder / "opt.yaml", config, run_folder);
}

}  // namespace frost::run
