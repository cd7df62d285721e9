#include "models/graph/row_args.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/yaml_file.h"
#include "kernels/error.h"
#include "models/graph/activation_text.h"

namespace frost {
namespace {

/// Python's tuples and lists as text, "(3, 1)", are lists; everything else is itself.
YAML::Node evaluated(const YAML::Node& node) {
  if (!node.IsScalar()) return node;
  const std::string& text = node.Scalar();
  if (text.size() < 2 || !((text.front() == '(' && text.back() == ')') || (text.front() == '[' && text.back() == ']')))
    return node;
  return parse_list(text.substr(1, text.size() - 2)).value_or(node);
}

std::string shown(const YAML::Node& node) {
  if (node.IsNull()) return "None";
  std::string text = node.IsScalar() ? node.Scalar() : "";
  if (node.IsSequence()) {
    for (const YAML::Node& item : node) {
      if (text.size() > 40) break;
      text += (text.empty() ? "" : ", ") + (item.IsScalar() ? item.Scalar() : std::string("..."));
    }
    text = "[" + text + "]";
  }
  if (node.IsMap()) return "a mapping";
  if (text.size() > 40) text = text.substr(0, 40) + "...";
  return text;
}

/// What to do where YAML has cut (3, 1) or nn.LeakyReLU(0.1, True) at its commas; empty where it has not.
std::string torn_hint(const YAML::Node& node) {
  if (!node.IsScalar()) return "";
  const std::string& text = node.Scalar();
  if (std::ranges::count(text, '(') <= std::ranges::count(text, ')')) return "";
  return text.starts_with('(') ? "; write a pair as [3, 1]" : "; put a module that has commas in quotes";
}

bool is_true(const std::string& text) {
  static const std::set<std::string> words{"True", "true", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"};
  return words.contains(text);
}
bool is_false(const std::string& text) {
  static const std::set<std::string> words{"False", "false", "FALSE", "no", "No", "NO", "off", "Off", "OFF"};
  return words.contains(text);
}

}  // namespace

namespace {
constexpr std::size_t kLongest = 1000;  // bytes; no row needs a tenth of it
}  // namespace

std::optional<YAML::Node> parse_list(const std::string& items) {
  if (items.size() > kLongest) return {};
  try {
    const YAML::Node list = parse_yaml("[" + items + "]", "list", nullptr);
    return list.IsSequence() ? std::optional(list) : std::nullopt;
  } catch (const Error&) {  // the caller knows what was expected, and where
    return {};
  }
}

namespace {
/// The pieces between the commas that no bracket encloses.
std::vector<std::string> pieces_of(const std::string& items) {
  std::vector<std::string> pieces(1);
  int depth = 0;
  for (const char c : items) {
    depth += (c == '(' || c == '[') - (c == ')' || c == ']');
    if (c == ',' && depth == 0)
      pieces.emplace_back();
    else
      pieces.back() += c;
  }
  if (pieces.back().find_first_not_of(' ') == std::string::npos) pieces.pop_back();  // Python allows a last comma
  return pieces;
}
}  // namespace

std::optional<std::vector<YAML::Node>> parse_call(const std::string& items, const std::vector<std::string>& names) {
  if (items.size() > kLongest) return {};
  std::vector<YAML::Node> nodes;
  bool named = false;
  for (std::string piece : pieces_of(items)) {
    std::size_t place = nodes.size();
    piece.erase(0, piece.find_first_not_of(' '));
    const auto equals = piece.find('=');
    const auto name = std::ranges::find(names, piece.substr(0, piece.find_last_not_of(' ', equals - 1) + 1));
    if (equals != std::string::npos) {
      if (name == names.end()) return {};
      place = static_cast<std::size_t>(name - names.begin());
      piece.erase(0, piece.find_first_not_of(' ', equals + 1));
      named = true;
    } else if (named) {
      return {};
    }
    while (nodes.size() <= place) nodes.emplace_back(YAML::NodeType::Undefined);
    if (nodes[place].IsDefined()) return {};
    const bool tuple = piece.starts_with('(') && piece.ends_with(')');
    const auto list = parse_list(tuple ? piece.substr(1, piece.size() - 2) : piece);
    if (!list || (!tuple && list->size() != 1)) return {};
    nodes[place].reset(tuple ? *list : (*list)[0]);
  }
  return nodes;
}

RowArgs::RowArgs(const ModelSpec& spec, const LayerSpec& layer, std::vector<std::string> names)
    : RowArgs(fmt::format("{}: layer {}", spec.name, layer.index), spec, layer, std::move(names)) {}

RowArgs::RowArgs(std::string where, const ModelSpec& spec, const LayerSpec& layer, std::vector<std::string> names)
    : spec_(spec), names_(std::move(names)), where_(fmt::format("{} ({})", where, layer.module)) {
  for (const YAML::Node& node : layer.args) nodes_.push_back(evaluated(node));
  if (nodes_.size() <= names_.size()) return;
  std::string hint;
  for (const YAML::Node& node : nodes_)
    if (hint.empty()) hint = torn_hint(node);
  std::vector<std::string> kinds = names_;  // nn.Sequential's are all called alike
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  fail(where_, ": ", nodes_.size(), " arguments, it takes ",
       names_.empty() ? "none" : fmt::format("at most {}: {}", names_.size(), fmt::join(kinds, ", ")), hint);
}

std::string RowArgs::at(std::size_t i) const { return fmt::format("{}: argument {} ({})", where_, i + 1, names_.at(i)); }

void RowArgs::refuse(std::size_t i, const std::string& expected) const {
  if (!present(i)) fail(at(i), " is missing, expected ", expected);
  fail(at(i), " is ", shown(nodes_[i]), ", expected ", expected, torn_hint(nodes_[i]));
}

bool RowArgs::none(std::size_t i) const { return present(i) && (nodes_[i].IsNull() || text_is(i, "None")); }

bool RowArgs::text_is(std::size_t i, const char* text) const {
  return present(i) && nodes_[i].IsScalar() && nodes_[i].Scalar() == text;
}

std::optional<std::int64_t> RowArgs::as_whole(const YAML::Node& node) const {
  if (!node.IsScalar()) return {};
  const std::string& text = node.Scalar();
  if (text == "nc") return spec_.classes;
  if (text == "na") return spec_.anchor_count();
  if (text == "no") return static_cast<std::int64_t>(spec_.anchor_count()) * (spec_.classes + 5);
  std::int64_t value = 0;
  if (YAML::convert<std::int64_t>::decode(node, value)) return value;
  double real = 0;  // 2.0
  if (!YAML::convert<double>::decode(node, real) || real != std::floor(real) || std::abs(real) > 1e9) return {};
  return static_cast<std::int64_t>(real);
}

std::optional<std::vector<int>> RowArgs::as_wholes(const YAML::Node& node, int least, int most) const {
  if (!node.IsSequence()) return {};
  std::vector<int> values;
  for (const YAML::Node& item : node) {
    const auto value = as_whole(item);
    if (!value || *value < least || *value > most) return {};
    values.push_back(static_cast<int>(*value));
  }
  return values;
}

std::int64_t RowArgs::whole(std::size_t i, std::int64_t least, std::int64_t most) const {
  const auto value = present(i) ? as_whole(nodes_[i]) : std::nullopt;
  if (!value || *value < least || *value > most) refuse(i, fmt::format("a whole number from {} to {}", least, most));
  return *value;
}

int RowArgs::whole(std::size_t i, int otherwise, int least, int most) const {
  return present(i) ? static_cast<int>(whole(i, std::int64_t{least}, std::int64_t{most})) : otherwise;
}

Pair RowArgs::pair(std::size_t i, Pair otherwise, int least, int most) const {
  if (!present(i)) return otherwise;
  if (!list(i)) {
    const auto value = as_whole(nodes_[i]);
    if (value && *value >= least && *value <= most) return static_cast<int>(*value);
  } else if (const auto values = as_wholes(nodes_[i], least, most); values && values->size() == 2) {
    return {(*values)[0], (*values)[1]};
  }
  refuse(i, fmt::format("a whole number from {} to {}, or a list of two", least, most));
}

int RowArgs::square(std::size_t i, std::optional<int> otherwise, int least, int most) const {
  if (!present(i) && !otherwise) refuse(i, fmt::format("a whole number from {} to {}", least, most));
  const Pair both = pair(i, otherwise.value_or(0), least, most);
  if (both.h != both.w) refuse(i, "one number for rows and columns");
  return both.h;
}

std::optional<Pair> RowArgs::padding(std::size_t i) const {
  if (!present(i) || none(i)) return {};
  return pair(i, 0, 0);
}

std::vector<int> RowArgs::whole_list(std::size_t i, const std::vector<int>& otherwise, int least, int most) const {
  if (!present(i)) return otherwise;
  const auto values = as_wholes(nodes_[i], least, most);
  if (!values) refuse(i, fmt::format("a list of whole numbers from {} to {}", least, most));
  return *values;
}

float RowArgs::real(std::size_t i, float otherwise) const {
  if (!present(i)) return otherwise;
  double value = 0;
  const bool number = nodes_[i].IsScalar() && YAML::convert<double>::decode(nodes_[i], value);
  const auto real = static_cast<float>(value);  // 1e300 is infinite
  if (!number || !std::isfinite(real)) refuse(i, "a number that 32 bits hold");
  return real;
}

double RowArgs::expansion(std::size_t i, double otherwise) const {
  if (!present(i)) return otherwise;
  double value = 0;
  const bool number = nodes_[i].IsScalar() && YAML::convert<double>::decode(nodes_[i], value);
  if (!number || !(value > 0 && value <= 100)) refuse(i, "a number above 0 and up to 100");
  return value;
}

bool RowArgs::flag(std::size_t i, bool otherwise) const {
  if (!present(i)) return otherwise;
  if (nodes_[i].IsScalar()) {
    const std::string& text = nodes_[i].Scalar();
    if (is_true(text) || text == "1") return true;
    if (is_false(text) || text == "0") return false;
  }
  refuse(i, "True or False");
}

std::string RowArgs::text(std::size_t i, const std::string& otherwise) const {
  if (!present(i)) return otherwise;
  if (!nodes_[i].IsScalar()) refuse(i, "a word");
  return nodes_[i].Scalar();
}

std::optional<Activation> RowArgs::activation(std::size_t i) const {
  if (!present(i)) return {};
  if (none(i)) return Activation{ActivationKind::identity};
  const std::string word = nodes_[i].IsScalar() ? nodes_[i].Scalar() : "";
  if (is_true(word)) return {};
  if (is_false(word)) return Activation{ActivationKind::identity};
  // A class without parentheses, or a number, would be no activation at all in YOLOv5, which is hardly what was meant.
  if (!word.ends_with(')')) refuse(i, "True, False, None or an activation with parentheses, such as nn.ReLU()");
  return parse_activation(word, at(i));
}

void RowArgs::only(std::size_t i, bool fits, const char* value) const {
  if (present(i) && !fits) fail(at(i), " is ", shown(nodes_[i]), "; frost supports ", value, " alone");
}

std::string RowArgs::printed(std::vector<std::string> head, std::size_t first) const {
  for (std::size_t i = first; i < nodes_.size(); ++i) {
    const std::string text = shown(nodes_[i]);
    head.push_back(text == "nearest" || text == "bilinear" ? "'" + text + "'" : text);
  }
  return fmt::format("[{}]", fmt::join(head, ", "));
}

}  // namespace frost
