#include "models/yolo/data/scan.h"

#include <fmt/format.h>

#include <optional>

namespace frost::yolo {

LabelSet scan_with_progress(const std::vector<std::string>& paths, const std::string& prefix, Observer& observer) {
  std::optional<Progress> bar;
  std::int64_t last = 0;
  ScanOptions options{.prefix = prefix};
  options.progress = [&](std::int64_t done, std::int64_t total) {
    if (!bar) bar.emplace(observer, prefix + "Scanning labels", total);
    bar->advance(done - last);
    last = done;
  };
  LabelSet set = scan_labels(paths, options);
  if (bar) bar->finish();
  observer.notice(fmt::format("{}{} images, {} backgrounds, {} corrupt{}\n", prefix, set.counts.found,
                              set.counts.missing + set.counts.empty, set.counts.corrupt,
                              set.from_cache ? " (from " + set.cache_path + ")" : ""));
  for (const std::string& message : set.messages) observer.notice(fmt::format("{}\n", message));
  return set;
}

}  // namespace frost::yolo
