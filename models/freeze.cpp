#include "models/freeze.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <sstream>

namespace frost {
namespace {

constexpr const char* kBackbone = "backbone";  // the term that names the backbone's layers

std::optional<int> number_of(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return {};
  return value;
}

struct Range {
  int first, last;
};
/// "7" or "10-23".
std::optional<Range> range_of(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = number_of(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : number_of(text.substr(dash + 1));
  if (!first || !last) return {};
  return Range{*first, *last};
}

bool begins_with_any(const std::string& name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) { return name.starts_with(p); });
}

/// Names to suggest for one that matches nothing: the closest among `backbone`, the modules and the parameters.
std::vector<std::string> nearest(Module& model, const std::string& pattern) {
  std::vector<std::pair<int, std::string>> names{{glob_distance(pattern, kBackbone), kBackbone}};
  std::set<std::string> seen;
  for (const Parameter* p : model.parameters())
    for (std::size_t dot = 0; dot != std::string::npos;) {
      dot = p->name.find('.', dot + 1);
      const std::string name = p->name.substr(0, dot);
      if (seen.insert(name).second) names.emplace_back(glob_distance(pattern, name), name);
    }
  std::stable_sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> best;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 4); ++i) best.push_back(names[i].second);
  return best;
}

}  // namespace

int glob_distance(const std::string& pattern, const std::string& text) {
  // Levenshtein's table, row by row; a star swallows characters at no cost.
  std::vector<int> row(text.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = static_cast<int>(j);
  for (const char wanted : pattern) {
    int diagonal = row[0];
    if (wanted != '*') ++row[0];
    for (std::size_t j = 1; j < row.size(); ++j) {
      const int above = row[j];
      row[j] = wanted == '*' ? std::min(above, row[j - 1])
                             : std::min({above + 1, row[j - 1] + 1, diagonal + (wanted != '?' && wanted != text[j - 1])});
      diagonal = above;
    }
  }
  return row.back();
}

std::vector<Parameter*> select(Module& model, const LayerNames& layers, const std::string& term, const std::string& option) {
  std::vector<std::string> prefixes;
  std::optional<Range> range = range_of(term);
  if (term == kBackbone) range = Range{0, layers.backbone - 1};
  std::vector<Parameter*> chosen;
  if (range) {
    FROST_CHECK(range->first <= range->last || term == kBackbone, option, " ", term, ": the range runs backwards");
    FROST_CHECK(range->last < layers.count(), option, " ", term, ": layer ", range->last,
                " does not exist, the model has layers 0 to ", layers.count() - 1);
    for (int layer = range->first; layer <= range->last; ++layer)
      for (const std::string& prefix : layers.prefixes[static_cast<std::size_t>(layer)]) prefixes.push_back(prefix);
    for (Parameter* p : model.parameters())
      if (begins_with_any(p->name, prefixes)) chosen.push_back(p);
    return chosen;
  }

  prefixes.push_back(term + ".");
  if (const std::size_t dot = term.rfind('.'); dot != std::string::npos)
    if (const auto span = range_of(std::string_view(term).substr(dot + 1))) {  // model.0-9
      prefixes.clear();
      for (int i = span->first; i <= std::min(span->last, 9999); ++i)
        prefixes.push_back(fmt::format("{}.{}.", term.substr(0, dot), i));
    }
  for (Parameter* p : model.parameters())
    if (begins_with_any(p->name, prefixes) || glob_distance(term, p->name) == 0) chosen.push_back(p);
  FROST_CHECK(!chosen.empty(), option, " '", term,
              "': no parameter has such a name; near it: ", fmt::format("{}", fmt::join(nearest(model, term), ", ")));
  return chosen;
}

std::vector<Parameter*> frozen_parameters(Module& model, const LayerNames& layers, const std::vector<std::string>& terms,
                                          const std::string& option) {
  if (terms.empty()) return {};
  if (const auto first = number_of(terms[0]); first && terms.size() == 1) {
    FROST_CHECK(*first <= layers.count(), option, " ", *first, ": the model has ", layers.count(), " layers");
    return *first == 0 ? std::vector<Parameter*>{} : select(model, layers, fmt::format("0-{}", *first - 1), option);
  }
  std::set<const Parameter*> frozen;
  const auto taken_away = [](const std::string& term) { return term.starts_with("!"); };
  if (std::all_of(terms.begin(), terms.end(), taken_away))
    for (const Parameter* p : model.parameters()) frozen.insert(p);
  for (const std::string& term : terms)
    if (!taken_away(term))
      for (const Parameter* p : select(model, layers, term, option)) frozen.insert(p);
  for (const std::string& term : terms) {
    if (!taken_away(term)) continue;
    std::size_t removed = 0;
    for (const Parameter* p : select(model, layers, term.substr(1), option)) removed += frozen.erase(p);
    FROST_CHECK(removed > 0, option, " ", term, ": takes nothing away, the other terms do not freeze it (",
                fmt::format("{}", fmt::join(terms, " ")), ")");
  }
  std::vector<Parameter*> chosen;
  for (Parameter* p : model.parameters())
    if (frozen.contains(p)) chosen.push_back(p);
  FROST_CHECK(!chosen.empty(), option, " ", fmt::format("{}", fmt::join(terms, " ")), ": these layers have no parameters");
  return chosen;
}

std::vector<std::string> freeze(Module& model, const LayerNames& layers, const std::vector<std::string>& terms,
                                const std::string& option) {
  const std::vector<Parameter*> chosen = frozen_parameters(model, layers, terms, option);
  for (Parameter* p : model.parameters()) p->trainable = true;
  std::vector<std::string> names;
  for (Parameter* p : chosen) {
    p->trainable = false;
    names.push_back(p->name);
  }
  return names;
}

std::string freeze_summary(Module& model) {
  std::size_t tensors = 0, frozen_tensors = 0;
  std::int64_t values = 0, frozen_values = 0;
  for (const Parameter* p : model.parameters()) {
    ++tensors, values += p->value.elements();
    if (!p->trainable) ++frozen_tensors, frozen_values += p->value.elements();
  }
  return fmt::format("frozen: {} of {} tensors, {} of {} parameters", frozen_tensors, tensors, frozen_values, values);
}

std::vector<UnfreezeStage> unfreeze_stages(Module& model, const LayerNames& layers, const std::vector<std::string>& texts,
                                           const std::vector<std::string>& frozen) {
  const std::string option = "--unfreeze-at";
  std::vector<UnfreezeStage> stages;
  std::vector<std::string> frozen_names = freeze(model, layers, frozen);
  for (const std::string& text : texts) {
    const std::size_t colon = text.find(':');
    const auto epoch = number_of(std::string_view(text).substr(0, colon));
    FROST_CHECK(colon != std::string::npos && colon + 1 < text.size() && epoch, option, " ", text,
                ": expected EPOCH:LAYERS, for example 5:6 or 8:0");
    FROST_CHECK(*epoch > (stages.empty() ? 0 : stages.back().epoch), option, " ", text,
                ": epochs count from 0 and must rise");
    UnfreezeStage stage{.epoch = *epoch, .freeze = {}, .text = text};
    std::stringstream terms(text.substr(colon + 1));
    for (std::string term; std::getline(terms, term, ',');) stage.freeze.push_back(term);
    const std::vector<std::string> names = freeze(model, layers, stage.freeze, option + " " + text + ":");
    for (const std::string& name : names)
      FROST_CHECK(std::find(frozen_names.begin(), frozen_names.end(), name) != frozen_names.end(), option, " ", text,
                  ": would freeze ", name, ", which trains by then; a stage can only unfreeze parameters");
    FROST_CHECK(names.size() < frozen_names.size(), option, " ", text, ": unfreezes nothing, just this is frozen by then");
    frozen_names = names;
    stages.push_back(std::move(stage));
  }
  freeze(model, layers, frozen);
  return stages;
}

std::vector<std::string> scale_learning_rates(Module& model, const LayerNames& layers,
                                              const std::vector<std::string>& texts) {
  std::vector<std::string> lines;
  for (const std::string& text : texts) {
    const std::size_t colon = text.rfind(':');
    const std::string number = colon == std::string::npos ? "" : text.substr(colon + 1);
    float scale = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), scale);
    FROST_CHECK(error == std::errc() && end == number.data() + number.size() && scale > 0 && std::isfinite(scale),
                "--lr-scale ", text, ": expected WHAT:SCALE with a positive scale, for example model.0-9:0.1");
    const std::vector<Parameter*> chosen = select(model, layers, text.substr(0, colon), "--lr-scale");
    for (Parameter* p : chosen) p->lr_scale = scale;
    lines.push_back(fmt::format("learning rate x {} for {} tensors of {}", scale, chosen.size(), text.substr(0, colon)));
  }
  return lines;
}

}  // namespace frost
