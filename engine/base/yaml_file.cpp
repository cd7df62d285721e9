#include "engine/base/yaml_file.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string_view>

#include "engine/base/input_file.h"
#include "kernels/error.h"

namespace frost {
namespace {

constexpr std::size_t kDepth = 100;         // maps and lists in each other
constexpr std::size_t kRepeats = 4;         // what aliases may make of a text, in its own size
constexpr std::size_t kMostGone = 100;      // keys to take out of one map, each in the time of its size
constexpr std::size_t kSmallText = 10'000;  // bytes; a text below may make as much as one of this size

/// The text as yaml-cpp wants it: without a byte order mark, lines ended by LF. UTF-16 and UTF-32 are left to yaml-cpp.
std::string plain_text(std::string_view text, const std::string& source) {
  using namespace std::string_view_literals;
  if (text.starts_with("\xff\xfe"sv) || text.starts_with("\xfe\xff"sv) || text.starts_with("\0\0\xfe\xff"sv))
    return std::string(text);
  if (text.starts_with("\xef\xbb\xbf"sv)) text.remove_prefix(3);
  std::string plain;
  plain.reserve(text.size());
  std::size_t line = 1;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\r') {
      if (i + 1 < text.size() && text[i + 1] == '\n') continue;
      c = '\n';
    }
    line += c == '\n';
    // yaml-cpp takes one of them for the end of the file.
    FROST_CHECK(static_cast<unsigned char>(c) >= ' ' || c == '\n' || c == '\t', source, ":", line,
                ": not valid YAML: a control character (byte ", static_cast<int>(c), ")");
    plain += c;
  }
  return plain;
}

/// Follows the parser's events, before any node is made, and refuses what would make too many of them.
class Watch final : public YAML::EventHandler {
 public:
  Watch(std::string_view text, const std::string& source)
      : source_(source), most_(kRepeats * std::max(text.size(), kSmallText)) {
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      lines_.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { leaf(mark, anchor, 1); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, const std::string& value) override {
    leaf(mark, anchor, 1 + value.size());
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto known = weights_.find(anchor);
    FROST_CHECK(known != weights_.end(), where(mark), "an alias within what it names");
    add(mark, known->second);
    FROST_CHECK(weight_ <= most_, where(mark), "aliases repeat too much: more than ", kRepeats, " times the file");
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, anchor);
  }
  void OnMapEnd() override { close(); }

  /// yaml-cpp lets some tabs pass as one blank each, which nests maps differently from how they look.
  void check_indentation(const YAML::Mark& mark) const {
    const auto number = static_cast<std::size_t>(mark.line);
    const std::string_view line = number < lines_.size() ? lines_[number] : "";
    const std::string_view indentation = line.substr(0, std::min(line.find_first_not_of(" \t"), line.size()));
    FROST_CHECK(indentation.find('\t') == indentation.npos, where(mark), "a tab in the indentation; YAML wants blanks");
  }

 private:
  struct Open {
    YAML::anchor_t anchor;
    std::size_t before;
  };
  std::string where(const YAML::Mark& mark) const { return detail::join(source_, ":", mark.line + 1, ": not valid YAML: "); }
  void add(const YAML::Mark& mark, std::size_t weight) {
    weight_ += weight;
    check_indentation(mark);
  }
  void leaf(const YAML::Mark& mark, YAML::anchor_t anchor, std::size_t weight) {
    add(mark, weight);
    if (anchor != 0) weights_[anchor] = weight;
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor) {
    FROST_CHECK(open_.size() < kDepth, where(mark), "more than ", kDepth, " lists and maps in each other");
    open_.push_back({anchor, weight_});
    add(mark, 1);
  }
  void close() {
    if (open_.back().anchor != 0) weights_[open_.back().anchor] = weight_ - open_.back().before;
    open_.pop_back();
  }

  const std::string& source_;
  std::size_t weight_ = 0, most_;  // nodes and bytes of their texts, aliases written out
  std::vector<std::string_view> lines_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, std::size_t> weights_;
};

/// Gives each map below `node` every key once.
class Keys {
 public:
  explicit Keys(const std::string& source) : source_(source) {}

  /// `unique`: the key of `node` below which no key may occur twice.
  void settle(YAML::Node node, std::vector<std::string>* warnings, std::string_view unique = {}) {
    if (node.IsSequence())
      for (const YAML::Node& item : node) settle(item, warnings);
    if (!node.IsMap()) return;
    for (const auto& entry : node) {
      FROST_CHECK(entry.first.IsScalar() || entry.first.IsNull(), source_, ":", entry.first.Mark().line + 1,
                  ": not valid YAML: a key that is a list or a map");
      settle(entry.second, entry.first.Scalar() == unique ? nullptr : warnings);
    }
    std::map<std::string, YAML::Node> own;
    std::vector<YAML::Node> gone;
    Pairs merged;
    for (const auto& entry : node) {
      const std::string key = entry.first.Scalar();
      if (key == "<<" && entry.first.Tag() != "!") {  // a quoted one is a key like others
        merge(entry.second, entry.first.Mark().line + 1, merged);
        gone.push_back(entry.first);
      } else if (const auto [earlier, first] = own.emplace(key, entry.first); !first) {
        repeated(key, earlier->second.Mark().line + 1, entry.first.Mark().line + 1, warnings);
        gone.push_back(earlier->second);
        earlier->second.reset(entry.first);
      }
    }
    FROST_CHECK(gone.size() <= kMostGone, source_, ": not valid YAML: more than ", kMostGone, " keys that stand twice");
    for (const YAML::Node& key : gone) node.remove(key);  // by identity
    for (auto& [key, value] : merged)
      if (own.emplace(key.Scalar(), key).second) node.force_insert(key, value);
  }

 private:
  using Pairs = std::vector<std::pair<YAML::Node, YAML::Node>>;

  /// The first of several maps wins.
  void merge(const YAML::Node& value, int line, Pairs& merged) const {
    FROST_CHECK(value.IsMap() || value.IsSequence(), source_, ":", line, ": '<<' merges a map or a list of maps");
    if (value.IsMap())
      for (const auto& entry : value) merged.emplace_back(entry.first, entry.second);
    else
      for (const YAML::Node& item : value) {
        FROST_CHECK(item.IsMap(), source_, ":", line, ": '<<' merges a map or a list of maps");
        merge(item, line, merged);
      }
  }
  void repeated(const std::string& key, int first, int second, std::vector<std::string>* warnings) const {
    FROST_CHECK(warnings != nullptr, source_, ": key '", key, "' stands there twice, in lines ", first, " and ", second);
    warnings->push_back(detail::join("WARNING: ", source_, ": key '", key, "' stands there twice, in lines ", first, " and ",
                                     second, "; the last one counts"));
  }

  const std::string& source_;
};

}  // namespace

YAML::Node parse_yaml(const std::string& text, const std::string& source, std::vector<std::string>* warnings,
                      std::string_view unique) {
  const std::string plain = plain_text(text, source);
  FROST_CHECK(plain.find_first_not_of(" \t\n") != plain.npos, source, ": the file is empty");
  Watch watch(plain, source);
  try {
    std::istringstream stream(plain);
    YAML::Parser parser(stream);
    const bool any = parser.HandleNextDocument(watch);
    FROST_CHECK(!any || !parser.HandleNextDocument(watch), source, ": not valid YAML: more than one document ('---')");
    YAML::Node root = YAML::Load(plain);
    Keys(source).settle(root, warnings, unique);
    return root;
  } catch (const YAML::Exception& e) {
    watch.check_indentation(e.mark);  // yaml-cpp's own words for a tab differ from place to place
    fail(source, ":", e.mark.line + 1, ": not valid YAML: ", e.msg);
  }
}

YAML::Node load_yaml(const std::filesystem::path& file, std::vector<std::string>* warnings, std::string_view unique) {
  return parse_yaml(read_text(file), file.string(), warnings, unique);
}

}  // namespace frost
