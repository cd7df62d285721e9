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
    {"agnostic-nms", ""},
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
    std::map<const CLI::Option*, std::string> meant;
    std::string all;
    for (const auto& [known, option] : names_)
      if (known.starts_with(name) && meant.emplace(option, known).second) all += (all.empty() ? "--" : ", --") + known;
    if (meant.size() == 1) return meant.begin()->second;
    if (!meant.empty())
      wrong.push_back("ambiguous option: --" + typed + " could match " + all);
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
  // A flag with the words behind it. Of a flag that is given again, all earlier ones are forgotten, as in argparse.
  struct Given {
    const CLI::Option* option = nullptr;
    std::vector<std::string> words{};
  };
  std::vector<Given> given(1);  // the first: words before any flag
  std::vector<std::string> wrong;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") {
      given.push_back({.words = {words.begin() + static_cast<std::ptrdiff_t>(i), words.end()}});
      break;
    }
    if (word.starts_with("--")) {
      const std::size_t equals = std::min(word.find('='), word.size());
      const auto name = flags.find(word.substr(2, equals - 2), wrong);
      if (!name) continue;
      const CLI::Option* option = flags.option(*name);
      std::erase_if(given, [&](const Given& g) { return g.option == option; });
      given.push_back({.option = option, .words = {"--" + *name + word.substr(equals)}});
      // An empty value, "--weights=": CLI11 would take the next word for it.
      if (equals + 1 == word.size()) given.back().words = {"--" + *name, ""};
    } else if (word.size() > 1 && word[0] == '-' && is_letter(word[1]) && !flags.is_letter(word.substr(1))) {
      wrong.push_back("unknown option " + word + flags.suggestion(word.substr(1)));
    } else {
      given.back().words.push_back(word);
    }
  }
  if (!wrong.empty()) throw CLI::ParseError(joined(wrong, "; "), CLI::ExitCodes::ExtrasError);
  std::vector<std::string> resolved;
  for (const Given& g : given) resolved.insert(resolved.end(), g.words.begin(), g.words.end());
  return resolved;
}

void parse_arguments(CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words = resolve_arguments(app, {argv + 1, argv + argc});
  std::ranges::reverse(words);  // as CLI11 takes them
  app.allow_extras();           // its own complaint has them in the reverse order
  app.parse(std::move(words));
  if (const std::vector<std::string> extras = app.remaining(); !extras.empty())
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
        if (error == std::errc::result_out_of_range && whole) return out_of_range(range, text, "");
        if (error != std::errc{} || !whole || !std::isfinite(value))
          return "a finite number is expected, not '" + text.substr(0, 40) + "'";
        if (value < least || value > most) return out_of_range(range, text, "");
        return {};
      },
      open ? "" : text_of(least) + " to " + text_of(most), "number");
}

}  // namespace frost
