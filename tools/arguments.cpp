#include "tools/arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>
#include <string_view>

namespace frost {
namespace {

/// Long flags of YOLOv5's tools, old and new, that no tool of frost has under that name, with what to do instead.
const std::map<std::string, std::string, std::less<>> kForeign = {
    {"adam", "; use --optimizer Adam"},
    {"artifact-alias", ""},
    {"augment", ""},
    {"bbox-interval", ""},
    {"bucket", ""},
    {"cache-images", "; use --cache ram"},
    {"dnn", ""},
    {"entity", ""},
    {"evolve", ""},
    {"image-weights", ""},
    {"linear-lr", "; the schedule is linear without --cos-lr"},
    {"local-rank", ""},
    {"log-artifacts", ""},
    {"log-imgs", ""},
    {"logdir", "; use --project"},
    {"notest", "; use --noval"},
    {"quad", ""},
    {"save-hybrid", ""},
    {"sync-bn", ""},
    {"total-batch-size", "; use --batch-size"},
    {"update", ""},
    {"upload-dataset", ""},
    {"view-img", ""},
    {"visualize", ""},
};

/// Long flags of YOLOv5's tools: what a prefix means there, it means here.
constexpr std::string_view kYolov5 =
    " batch-size cache cfg classes conf-thres cos-lr cutoff data decay device dropout epochs exist-ok freeze half help hyp "
    "img img-size imgsz iou-thres label-smoothing lr0 max-det model multi-scale name noautoanchor noplots nosave noval "
    "optimizer patience pretrained project rect resume save-conf save-json save-period save-txt seed single-cls source "
    "task verbose weights workers ";

/// Insertions, deletions, changes and swaps of neighbours that make `b` out of `a`.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i)
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

class Flags {
 public:
  explicit Flags(const CLI::App& app) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) names_.emplace(name, option);
      for (const std::string& name : option->get_snames()) letters_.push_back(name);
    }
  }

  const CLI::Option* option(const std::string& name) const { return names_.at(name); }
  bool is_letter(const std::string& name) const { return std::ranges::find(letters_, name) != letters_.end(); }

  /// The flag that `typed` (without dashes) means; else adds to `wrong` why there is none.
  std::optional<std::string> find(const std::string& typed, std::vector<std::string>& wrong) const {
    if (names_.contains(typed)) return typed;
    std::string name = typed;
    std::ranges::replace(name, '_', '-');
    if (names_.contains(name)) return name;
    if (const auto foreign = kForeign.find(name); foreign != kForeign.end()) {
      wrong.push_back("--" + typed + " is YOLOv5's, not supported by frost" + foreign->second);
      return std::nullopt;
    }
    std::map<const CLI::Option*, std::string> meant, yolov5;
    std::string all, foreign;
    if (!name.empty()) {
      for (const auto& [known, option] : names_) {
        if (!known.starts_with(name)) continue;
        if (meant.emplace(option, known).second) all += (all.empty() ? "--" : ", --") + known;
        if (kYolov5.find(" " + known + " ") != kYolov5.npos) yolov5.emplace(option, known);
      }
      for (const auto& [known, instead] : kForeign)
        if (known.starts_with(name)) foreign += (foreign.empty() ? "--" : ", --") + known;
    }
    if (yolov5.size() == 1) return yolov5.begin()->second;
    const bool in_yolov5 = names_.contains("project");  // YOLOv5 has this tool too: all of its tools have that flag
    if (meant.size() == 1 && (foreign.empty() || !in_yolov5)) return meant.begin()->second;
    if (!meant.empty())  // in such a tool a prefix of a YOLOv5 flag never means a flag that frost alone has
      wrong.push_back("ambiguous option: --" + typed + " could match " + all +
                      (meant.size() == 1 ? ", or YOLOv5's " + foreign : ""));
    else if (!foreign.empty())
      wrong.push_back("unknown option --" + typed + "; YOLOv5's " + foreign +
                      (foreign.find(',') == std::string::npos ? " is" : " are") + " not supported by frost");
    else
      wrong.push_back("unknown option --" + typed + suggestion(name));
    return std::nullopt;
  }

  /// " (did you mean --x?)", where something is near enough.
  std::string suggestion(const std::string& name) const {
    std::string nearest;
    std::size_t least = std::max<std::size_t>(2, name.size() / 3) + 1;
    for (const auto& [known, option] : names_)
      if (const std::size_t d = distance(name, known); d < least && d < known.size()) least = d, nearest = known;
    return nearest.empty() ? "" : " (did you mean --" + nearest + "?)";
  }

 private:
  std::map<std::string, const CLI::Option*, std::less<>> names_;
  std::vector<std::string> letters_;
};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::string text_of(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

std::string out_of_range(const std::string& range, const std::string& given, const std::string& note) {
  return "must be " + range + (note.empty() ? "" : "; " + note) + " (given: " + given.substr(0, 40) + ")";
}

}  // namespace

std::vector<std::string> resolve_arguments(const CLI::App& app, const std::vector<std::string>& words) {
  const Flags flags(app);
  // A flag with the values after it. Of a flag that is given again, all earlier ones are forgotten, as in argparse.
  struct Given {
    const CLI::Option* option;
    std::vector<std::string> words;
    std::size_t room;  // values that the flag may still take
  };
  std::vector<Given> given;
  std::vector<std::string> resolved, rest, wrong;  // resolved begins with the words that no flag takes
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") {
      rest.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      break;
    }
    if (word.starts_with("--")) {
      const std::size_t equals = std::min(word.find('='), word.size());
      const auto name = flags.find(word.substr(2, equals - 2), wrong);
      if (!name) continue;
      const CLI::Option* option = flags.option(*name);
      const auto most = static_cast<std::size_t>(option->get_items_expected_max());
      std::erase_if(given, [&](const Given& g) { return g.option == option; });
      given.push_back({option, {"--" + *name + word.substr(equals)}, equals < word.size() ? 0 : most});
      if (equals + 1 != word.size()) continue;
      if (most == 0) wrong.push_back("--" + *name + " takes no value");
      given.back().words = {"--" + *name, ""};  // of "--weights=" CLI11 would take the next word
    } else if (word.size() > 1 && word[0] == '-' && is_letter(word[1]) && !flags.is_letter(word.substr(1))) {
      wrong.push_back("unknown option " + word + flags.suggestion(word.substr(1)));
    } else if (!given.empty() && given.back().room > 0) {
      given.back().words.push_back(word);
      --given.back().room;
    } else {
      resolved.push_back(word);
    }
  }
  if (!wrong.empty()) throw CLI::ParseError(joined(wrong, "; "), CLI::ExitCodes::ExtrasError);
  for (const Given& g : given) resolved.insert(resolved.end(), g.words.begin(), g.words.end());
  resolved.insert(resolved.end(), rest.begin(), rest.end());
  return resolved;
}

void parse_arguments(CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words = resolve_arguments(app, {argv + 1, argv + argc});
  std::ranges::reverse(words);  // as CLI11 takes them
  app.allow_extras();           // its own complaint has them in the reverse order
  app.parse(std::move(words));
  std::vector<std::string> extras = app.remaining();
  if (const auto mark = std::ranges::find(extras, "--"); mark != extras.end()) extras.erase(mark);  // CLI11 leaves it
  if (!extras.empty())
    throw CLI::ParseError(
        (extras.size() == 1 ? "an argument that belongs to no option: " : "arguments that belong to no option: ") +
            joined(extras, " "),
        CLI::ExitCodes::ExtrasError);
}

CLI::Validator whole_number(std::int64_t least, std::int64_t most, const std::string& note) {
  const bool open = most == std::numeric_limits<int>::max() || most == std::numeric_limits<std::int64_t>::max();
  const std::string at_least = "at least " + std::to_string(least);
  const std::string range = open ? at_least : "from " + std::to_string(least) + " to " + std::to_string(most);
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        std::string_view digits = text;
        if (digits.starts_with('+')) digits.remove_prefix(1);
        std::int64_t value = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (error == std::errc::invalid_argument || end != digits.data() + digits.size())
          return "a whole number is expected, not '" + text.substr(0, 40) + "'";
        const bool large = error == std::errc::result_out_of_range ? digits[0] != '-' : value > most;
        if (large && open) return out_of_range("at most " + std::to_string(most), text, "");
        if (large || error != std::errc{} || value < least) return out_of_range(range, text, note);
        text = std::to_string(value);  // CLI11 would read 010 as octal
        return {};
      },
      open ? "" : std::to_string(least) + " to " + std::to_string(most), "whole number");
}

CLI::Validator number(double least, double most) {
  const bool open = std::isinf(most);
  const std::string range = open ? "at least " + text_of(least) : "from " + text_of(least) + " to " + text_of(most);
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        std::string_view digits = text;
        if (digits.starts_with('+')) digits.remove_prefix(1);
        double value = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        const bool whole = end == digits.data() + digits.size() && !digits.empty();
        if (error == std::errc::result_out_of_range && whole) {
          value = std::strtod(std::string(digits).c_str(), nullptr);  // 1e-400 is 0, 1e400 is none
          if (std::isinf(value)) return out_of_range(range, text, "");
        } else if (error != std::errc{} || !whole || !std::isfinite(value)) {
          return "a finite number is expected, not '" + text.substr(0, 40) + "'";
        }
        if (value < least || value > most) return out_of_range(range, text, "");
        return {};
      },
      open ? "" : text_of(least) + " to " + text_of(most), "number");
}

}  // namespace frost
