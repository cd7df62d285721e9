#include "engine/report/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "engine/base/input_file.h"
#include "kernels/error.h"

namespace frost {
namespace {

std::vector<std::string> split_row(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream in(line);
  for (std::string cell; std::getline(in, cell, ',');) {
    const auto first = cell.find_first_not_of(' ');
    const auto last = cell.find_last_not_of(" \r");
    cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
  }
  return cells;
}

/// A column of the table: its heading and a run's cell.
struct Column {
  std::string heading;
  std::function<std::string(const ComparedRun&)> cell;
};

std::string megabytes(std::int64_t bytes) { return fmt::format("{:.1f}", static_cast<double>(bytes) / 1e6); }

/// "metrics/mAP_0.5:0.95" as people write it.
std::string heading_of(const std::string& metric) {
  constexpr std::array<std::pair<const char*, const char*>, 4> known = {{{"metrics/mAP_0.5", "mAP50"},
                                                                         {"metrics/mAP_0.5:0.95", "mAP50-95"},
                                                                         {"metrics/accuracy_top1", "top-1"},
                                                                         {"metrics/accuracy_top5", "top-5"}}};
  for (const auto& [column, heading] : known)
    if (metric == column) return heading;
  return metric;
}

/// The metrics worth a column: those that every run has, without precision and recall, which follow one threshold.
std::vector<std::string> common_metrics(const std::vector<ComparedRun>& runs) {
  std::vector<std::string> metrics;
  for (const auto& [name, value] : runs.front().summary.best) {
    if (!name.starts_with("metrics/") || name == "metrics/precision" || name == "metrics/recall") continue;
    const bool everywhere = std::all_of(runs.begin(), runs.end(), [&, &name = name](const ComparedRun& run) {
      return std::any_of(run.summary.best.begin(), run.summary.best.end(), [&](const auto& m) { return m.first == name; });
    });
    if (everywhere) metrics.push_back(name);
  }
  return metrics;
}

std::vector<Column> table_columns(const std::vector<ComparedRun>& runs, bool roles) {
  const auto peak = [](Role role) {
    return [role](const ComparedRun& run) { return megabytes(run.summary.peaks[static_cast<std::size_t>(role)]); };
  };
  std::vector<Column> columns{
      {"run", [](const ComparedRun& run) { return run.label; }},
      {"epochs", [](const ComparedRun& run) { return std::to_string(run.summary.epochs); }},
      {"trainable",
       [](const ComparedRun& run) {
         return fmt::format("{:.1f} %", 100.0 * static_cast<double>(run.summary.trainable) /
                                            static_cast<double>(std::max<std::int64_t>(run.summary.parameters, 1)));
       }},
      {"s/epoch", [](const ComparedRun& run) { return fmt::format("{:.2f}", run.summary.seconds_per_epoch()); }},
      {"ms/step", [](const ComparedRun& run) { return fmt::format("{:.1f}", 1000 * run.summary.seconds_per_step()); }},
      {"peak MB", [](const ComparedRun& run) { return megabytes(run.summary.peak_total); }},
      {"saved act. MB", peak(Role::saved_activation)},
      {"gradients MB", peak(Role::gradient)},
      {"optimizer MB", peak(Role::optimizer_state)},
  };
  if (roles)
    columns.insert(columns.end(), {{"parameters MB", peak(Role::parameter)},
                                   {"buffers MB", peak(Role::buffer)},
                                   {"transient act. MB", peak(Role::activation)},
                                   {"workspace MB", peak(Role::workspace)},
                                   {"input MB", peak(Role::input)}});
  for (const std::string& metric : common_metrics(runs))
    columns.push_back({heading_of(metric),
                       [metric](const ComparedRun& run) { return fmt::format("{:.3f}", run.summary.metric(metric)); }});
  columns.push_back({"file MB", [](const ComparedRun& run) {
                       const auto& files = run.summary.files;
                       const auto best = files.find("best.safetensors");
                       if (best != files.end()) return megabytes(best->second);
                       return files.empty() ? std::string("-") : megabytes(files.begin()->second);
                     }});
  return columns;
}

/// "0.874", or "0.853 (0.833-0.874)" of several.
std::string mean_and_range(const std::vector<double>& values) {
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  if (values.size() == 1) return fmt::format("{:.3f}", mean);
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{:.3f} ({:.3f}-{:.3f})", mean, *least, *most);
}

/// The table's cells: the headings, a row for each run, a row for each reference.
std::vector<std::vector<std::string>> table_rows(const std::vector<ComparedRun>& runs, const TableOptions& options) {
  FROST_CHECK(!runs.empty(), "no run to compare");
  const std::vector<Column> columns = table_columns(runs, options.roles);
  std::vector<std::vector<std::string>> rows(1);
  for (const Column& column : columns) rows[0].push_back(column.heading);
  for (const ComparedRun& run : runs) {
    rows.emplace_back();
    for (const Column& column : columns) rows.back().push_back(column.cell(run));
  }
  for (const ReferenceRun& reference : options.references) {
    rows.emplace_back(columns.size(), "-");
    rows.back()[0] = reference.label;
    for (std::size_t c = 1; c < columns.size(); ++c)
      if (const auto it = reference.best.find(columns[c].heading); it != reference.best.end())
        rows.back()[c] = mean_and_range(it->second);
  }
  return rows;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

constexpr std::array<const char*, 8> kColours = {"#1f77b4", "#d95f02", "#1b9e77", "#7570b3",
                                                 "#e7298a", "#66a61e", "#a6761d", "#666666"};
const char* colour(std::size_t run) { return kColours[run % kColours.size()]; }

/// One metric over the epochs, a line for each run, as inline SVG.
std::string curve(const std::vector<ComparedRun>& runs, const std::string& metric) {
  constexpr double kWidth = 520, kHeight = 240, kLeft = 44, kBottom = 26, kTop = 10, kRight = 10;
  double epochs = 1, top = 0;
  for (const ComparedRun& run : runs) {
    const auto at = std::find(run.columns.begin(), run.columns.end(), metric);
    if (at == run.columns.end()) continue;
    epochs = std::max(epochs, static_cast<double>(run.rows.size()) - 1);
    for (const auto& row : run.rows) top = std::max(top, row[static_cast<std::size_t>(at - run.columns.begin())]);
  }
  top = std::max(0.1, std::ceil(top * 10) / 10);
  const auto x = [&](double epoch) { return kLeft + epoch / epochs * (kWidth - kLeft - kRight); };
  const auto y = [&](double value) { return kHeight - kBottom - value / top * (kHeight - kBottom - kTop); };

  std::string svg = fmt::format(R"(<figure><figcaption>{}</figcaption><svg viewBox="0 0 {} {}" role="img">)",
                                escaped(heading_of(metric)), kWidth, kHeight);
  for (int line = 0; line <= 4; ++line) {
    const double value = top * line / 4;
    svg += fmt::format(R"(<line class="grid" x1="{:.0f}" x2="{:.0f}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft, kWidth - kRight,
                       y(value), y(value));
    svg += fmt::format(R"(<text x="{:.0f}" y="{:.1f}" text-anchor="end">{:.2f}</text>)", kLeft - 6, y(value) + 4, value);
  }
  svg +=
      fmt::format(R"(<text x="{:.0f}" y="{:.0f}">epoch 0</text><text x="{:.0f}" y="{:.0f}" text-anchor="end">{:.0f}</text>)",
                  kLeft, kHeight - 6, kWidth - kRight, kHeight - 6, epochs);
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const auto at = std::find(runs[r].columns.begin(), runs[r].columns.end(), metric);
    if (at == runs[r].columns.end()) continue;
    svg += fmt::format(R"(<polyline stroke="{}" points=")", colour(r));
    for (std::size_t epoch = 0; epoch < runs[r].rows.size(); ++epoch)
      svg += fmt::format("{:.1f},{:.1f} ", x(static_cast<double>(epoch)),
                         y(runs[r].rows[epoch][static_cast<std::size_t>(at - runs[r].columns.begin())]));
    svg += fmt::format(R"("><title>{}</title></polyline>)", escaped(runs[r].label));
  }
  return svg + "</svg></figure>\n";
}

/// Horizontal bars, one a run.
std::string bars(const std::vector<ComparedRun>& runs, const std::string& caption, const std::string& unit,
                 const std::function<double(const ComparedRun&)>& value) {
  double most = 0;
  for (const ComparedRun& run : runs) most = std::max(most, value(run));
  std::string html = fmt::format("<figure><figcaption>{}</figcaption><div class=\"bars\">", escaped(caption));
  for (std::size_t r = 0; r < runs.size(); ++r)
    html += fmt::format(
        R"(<span>{}</span><span class="track"><span style="width:{:.1f}%;background:{}"></span></span><span>{:.1f} {}</span>)",
        escaped(runs[r].label), most > 0 ? 100 * value(runs[r]) / most : 0.0, colour(r), value(runs[r]), unit);
  return html + "</div></figure>\n";
}

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;font-weight:600}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .5rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{font-weight:600}
tbody tr:hover{background:var(--soft)}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.5em}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:1.5rem;margin-top:2rem}
figure{margin:0}figcaption{font-weight:600;margin-bottom:.4rem}
svg{width:100%;height:auto}svg text{font-size:12px;fill:currentColor;opacity:.7}
.grid{stroke:var(--line)}polyline{fill:none;stroke-width:2}
.bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:.35rem .7rem;align-items:center;
font-variant-numeric:tabular-nums}
.track{background:var(--soft);border-radius:3px}.track span{display:block;height:1em;border-radius:3px}
)";

}  // namespace

ComparedRun read_compared_run(const std::string& label, const std::filesystem::path& folder) {
  ComparedRun run{label, read_run_summary(folder), {}, {}};
  const std::filesystem::path file = folder / "results.csv";
  std::istringstream in(read_text(file));
  std::string line;
  FROST_CHECK(std::getline(in, line), file.string(), ": is empty");
  run.columns = split_row(line);
  for (int number = 2; std::getline(in, line); ++number) {
    std::vector<double> row;
    for (const std::string& cell : split_row(line)) {
      char* end = nullptr;
      row.push_back(std::strtod(cell.c_str(), &end));
      FROST_CHECK(!cell.empty() && *end == '\0', file.string(), ":", number, ": '", cell, "' is not a number");
    }
    FROST_CHECK(row.size() == run.columns.size(), file.string(), ":", number, ": ", row.size(), " cells, the header has ",
                run.columns.size());
    run.rows.push_back(std::move(row));
  }
  return run;
}

std::vector<ReferenceRun> read_reference_runs(const std::filesystem::path& file) {
  const std::string text = read_text(file);
  std::vector<ReferenceRun> references;
  const auto add_best = [](ReferenceRun& reference, const nlohmann::ordered_json& run) {
    const std::string prefix = "best ";
    for (const auto& [key, value] : run.items())
      if (key.starts_with(prefix)) reference.best[key.substr(prefix.size())].push_back(value);
  };
  try {
    const auto json = nlohmann::ordered_json::parse(text);
    const auto name_in = [](const nlohmann::ordered_json& object) {
      const std::string what = object.at("what");
      return what.substr(0, what.find(','));
    };
    const std::string whose = name_in(json) + ": ";
    for (const auto& [name, run] : json.at("runs").items()) {
      references.push_back({whose + name, {}});
      add_best(references.back(), run);
    }
    if (!json.contains("more seeds")) return references;
    const auto& more = json["more seeds"];
    const std::string label = whose + name_in(more);
    const auto same = std::find_if(references.begin(), references.end(), [&](const auto& r) { return r.label == label; });
    FROST_CHECK(same != references.end(), file.string(), ": more seeds of '", name_in(more), "', which is none of the runs");
    std::size_t seeds = 1;
    std::vector<ReferenceRun> others;
    for (const auto& [seed, run] : more.items()) {
      if (!run.is_object()) continue;
      const bool another = seed.find(',') != std::string::npos;
      if (another)
        add_best(others.emplace_back(label + ", " + seed), run);
      else
        add_best(*same, run), ++seeds;
    }
    if (seeds > 1) same->label += fmt::format(", {} seeds", seeds);
    references.insert(same + 1, others.begin(), others.end());
  } catch (const nlohmann::json::exception& e) {
    fail(file.string(), ": does not hold runs to compare with: ", e.what());
  }
  return references;
}

std::string comparison_table(const std::vector<ComparedRun>& runs, const TableOptions& options) {
  const std::vector<std::vector<std::string>> rows = table_rows(runs, options);
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());

  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      text += options.markdown ? "| " : (c ? "  " : "");
      text += c == 0 ? fmt::format("{:<{}}", row[c], widths[c]) : fmt::format("{:>{}}", row[c], widths[c]);
      if (options.markdown) text += c + 1 == row.size() ? " |" : " ";
    }
    text += "\n";
    if (&row != rows.data() || !options.markdown) continue;
    for (std::size_t c = 0; c < row.size(); ++c) text += "|" + std::string(widths[c] + (c ? 1 : 2), '-') + (c ? ":" : "");
    text += "|\n";
  }
  return text;
}

std::string comparison_page(const std::string& title, const std::vector<ComparedRun>& runs, const TableOptions& options) {
  const std::vector<std::vector<std::string>> rows = table_rows(runs, options);
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>{0}</title>\n<style>{1}</style></head>\n<body>\n<h1>{0}</h1>\n"
      "<div class=\"wide\"><table><thead><tr>",
      escaped(title), kStyle);
  for (const std::string& heading : rows[0]) page += fmt::format("<th>{}</th>", escaped(heading));
  page += "</tr></thead><tbody>\n";
  for (std::size_t r = 1; r < rows.size(); ++r) {
    const std::string dot =
        r <= runs.size() ? fmt::format(R"(<span class="dot" style="background:{}"></span>)", colour(r - 1)) : "";
    page += "<tr>";
    for (std::size_t c = 0; c < rows[r].size(); ++c) page += fmt::format("<td>{}{}</td>", c ? "" : dot, escaped(rows[r][c]));
    page += "</tr>\n";
  }
  page += "</tbody></table></div>\n<div class=\"figures\">\n";
  for (const std::string& metric : common_metrics(runs)) page += curve(runs, metric);
  page +=
      bars(runs, "Time of a training step", "ms", [](const ComparedRun& r) { return 1000 * r.summary.seconds_per_step(); });
  page += bars(runs, "Peak memory in training", "MB",
               [](const ComparedRun& r) { return static_cast<double>(r.summary.peak_total) / 1e6; });
  return page + "</div>\n</body></html>\n";
}

}  // namespace frost
