#include "models/yolo/train_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <functional>
#include <sstream>
#include <vector>

#include "engine/base/atomic_file.h"

namespace frost::yolo {
namespace {

std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(int value) { return std::to_string(value); }
std::string text_of(double value) { return fmt::format("{}", value); }
std::string text_of(std::uint64_t value) { return std::to_string(value); }
std::string text_of(const std::string& value) { return value; }
std::string text_of(const std::filesystem::path& value) { return value.string(); }
std::string text_of(OptimizerKind value) { return name_of(value); }
std::string text_of(FrozenBn value) { return value == FrozenBn::batch ? "batch" : "running"; }
std::string text_of(const std::vector<std::string>& value) { return fmt::format("[{}]", fmt::join(value, ", ")); }

void read(const YAML::Node& node, std::filesystem::path& value) { value = node.as<std::string>(); }
void read(const YAML::Node& node, OptimizerKind& value) { value = parse_optimizer(node.as<std::string>()); }
void read(const YAML::Node& node, FrozenBn& value) {
  value = node.as<std::string>() == "batch" ? FrozenBn::batch : FrozenBn::running;
}
template <class T>
void read(const YAML::Node& node, T& value) {
  value = node.as<T>();
}

/// Every option once: key and member, in YOLOv5's order. Printing, writing and reading all walk this list.
template <class Config, class F>
void each_option(Config& c, F&& f) {
  f("weights", c.weights), f("cfg", c.cfg), f("data", c.data), f("hyp", c.hyp), f("epochs", c.epochs),
      f("batch_size", c.batch_size);
  f("imgsz", c.imgsz), f("rect", c.rect), f("resume", c.resume), f("nosave", c.nosave), f("noval", c.noval);
  f("noautoanchor", c.noautoanchor), f("noplots", c.noplots), f("cache", c.cache), f("device", c.device),
      f("multi_scale", c.multi_scale);
  f("single_cls", c.single_cls), f("optimizer", c.optimizer), f("workers", c.workers), f("project", c.project),
      f("name", c.name);
  f("exist_ok", c.exist_ok), f("cos_lr", c.cos_lr), f("label_smoothing", c.label_smoothing), f("patience", c.patience);
  f("freeze", c.freeze), f("save_period", c.save_period), f("seed", c.seed), f("frozen_bn", c.frozen_bn),
      f("precision", c.precision);
  f("recompute", c.recompute), f("nbs", c.nbs), f("strict", c.strict), f("prune_schedule", c.prune_schedule);
}

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char ch : text) out += ch == '\'' ? std::string("''") : std::string(1, ch);
  return out + "'";
}
std::string yaml_of(const std::string& value) { return quoted(value); }
std::string yaml_of(const std::filesystem::path& value) { return quoted(value.string()); }
std::string yaml_of(const std::vector<std::string>& value) {  // numbers as YOLOv5 writes them: freeze: [0]
  std::vector<std::string> items;
  for (const std::string& item : value)
    items.push_back(item.find_first_not_of("0123456789") == std::string::npos && !item.empty() ? item : quoted(item));
  return fmt::format("[{}]", fmt::join(items, ", "));
}
template <class T>
std::string yaml_of(const T& value) {
  return text_of(value);
}

}  // namespace

std::string train_options_line(const TrainConfig& config) {
  std::vector<std::string> parts;
  each_option(config,
              [&](const char* key, const auto& value) { parts.push_back(fmt::format("{}={}", key, text_of(value))); });
  return fmt::format("{}", fmt::join(parts, ", "));
}

void write_train_options(const std::filesystem::path& file, const TrainConfig& config,
                         const std::filesystem::path& run_folder) {
  std::string text;
  each_option(config, [&](const char* key, const auto& value) { text += fmt::format("{}: {}\n", key, yaml_of(value)); });
  text += fmt::format("save_dir: {}\n", quoted(run_folder.string()));
  write_file_atomically(file, std::as_bytes(std::span(text)));
}

TrainConfig read_train_options(const std::filesystem::path& file) {
  FROST_CHECK(std::filesystem::exists(file), file.string(),
              ": not found; --resume needs the run's folder with its opt.yaml");
  YAML::Node root;
  try {
    root = YAML::LoadFile(file.string());
  } catch (const YAML::Exception& e) {
    fail(file.string(), ":", e.mark.line + 1, ": not valid YAML: ", e.msg);
  }
  TrainConfig config;
  each_option(config, [&](const char* key, auto& value) {
    const YAML::Node node = root[key];
    if (!node || node.IsNull()) return;
    try {
      read(node, value);
    } catch (const YAML::Exception&) {
      fail(file.string(), ": '", key, "' has a value that does not fit");
    }
  });
  return config;
}

}  // namespace frost::yolo
