#include "engine/base/folder_files.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <map>
#include <set>
#include <system_error>
#include <utility>

namespace frost {
namespace {
namespace fs = std::filesystem;

/// The real folder behind a link in the real folder `parent`; empty where there is none, and for a loop.
fs::path target_of(const fs::path& link, const fs::path& parent) {
  std::error_code error;
  fs::path real = fs::canonical(link, error);
  if (error) return {};
  const bool loop = std::mismatch(real.begin(), real.end(), parent.begin(), parent.end()).first == real.end();
  return loop ? fs::path() : real;
}

struct Entries {
  std::vector<fs::path> folders, links, files;  // links: to folders
};
Entries entries_of(const fs::path& folder) {
  Entries all;
  for (const auto& entry : fs::directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    std::error_code error;
    if (is_clutter(entry.path().filename().string())) continue;
    const bool is_folder = entry.is_directory(error);
    (!is_folder ? all.files : entry.is_symlink(error) ? all.links : all.folders).push_back(entry.path());
  }
  return all;
}

}  // namespace

std::string lower_ending(const fs::path& file) {
  std::string ending = file.extension().string();
  ending.erase(0, 1);
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending;
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  const fs::path real = fs::canonical(folder);
  Entries all = entries_of(folder);
  for (fs::path& link : all.links)
    if (!target_of(link, real).empty()) all.folders.push_back(std::move(link));
  std::ranges::sort(all.folders);
  return std::move(all.folders);
}

std::vector<fs::path> files_below(const fs::path& folder, const std::function<bool(const fs::path&)>& wanted) {
  std::vector<fs::path> files;
  std::set<fs::path> seen;                                                           // real folders
  std::vector<std::pair<fs::path, fs::path>> next{{folder, fs::canonical(folder)}};  // a folder's path and its real one
  std::map<fs::path, fs::path> links;  // a link's path and its folder's real one
  while (!next.empty() || !links.empty()) {
    if (next.empty()) {  // links wait until all real folders are seen
      const auto [link, parent] = *links.begin();
      links.erase(links.begin());
      if (fs::path real = target_of(link, parent); !real.empty()) next.emplace_back(link, std::move(real));
      continue;
    }
    const auto [path, real] = std::move(next.back());
    next.pop_back();
    if (!seen.insert(real).second) continue;
    Entries all = entries_of(path);
    for (const fs::path& below : all.folders) next.emplace_back(below, real / below.filename());
    for (fs::path& link : all.links) links.emplace(std::move(link), real);
    std::ranges::copy_if(all.files, std::back_inserter(files), wanted);
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace frost
