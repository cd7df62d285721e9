#pragma once
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

/// Reads what comments, tests and pages cite of docs/spec: "docs/spec/PAGE.md section 3.1".
namespace frost::house {

namespace fs = std::filesystem;

inline std::string contents(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The numbers of a page's headings: "## 3. Title", "### 3.1 Title".
inline std::set<std::string> headings(const std::string& page) {
  std::set<std::string> numbers;
  for (std::size_t at = 0; at < page.size(); at = page.find('\n', at) + 1) {
    std::size_t first = at, last;
    while (page[first] == '#') ++first;
    if (first > at && page[first] == ' ') {
      last = std::min(page.find_first_not_of("0123456789.", ++first), page.size());
      if (last > first) numbers.insert(page.substr(first, last - first - (page[last - 1] == '.')));
    }
    if (page.find('\n', at) == std::string::npos) break;
  }
  return numbers;
}

/// A comment's lines as one: what begins a line of a comment becomes blanks, and so does the line's end.
inline std::string joined(std::string text) {
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) {
    text[at] = ' ';
    for (; at < text.size() && (text[at] == ' ' || text[at] == '/' || text[at] == '#' || text[at] == '*'); ++at)
      text[at] = ' ';
  }
  return text;
}

/// The section numbers from `at` on: "section 3.1", "sections 2, 4 and 6 to 8". Moves `at` after them; empty where there
/// are none.
inline std::vector<std::string> section_list(const std::string& text, std::size_t& at) {
  const auto blanks = [&](std::size_t i) { return std::min(text.find_first_not_of(' ', i), text.size()); };
  std::vector<std::string> numbers;
  std::size_t i = blanks(at);
  if (text.compare(i, 7, "section") != 0 && text.compare(i, 7, "Section") != 0) return numbers;
  i += 7;
  if (i < text.size() && text[i] == 's') ++i;
  for (;;) {
    std::size_t first = blanks(i), last = first;
    const auto digit = [&](std::size_t k) { return k < text.size() && std::isdigit(static_cast<unsigned char>(text[k])); };
    while (digit(last) || (text[last] == '.' && last > first && digit(last + 1))) ++last;
    if (last == first) return numbers;
    numbers.push_back(text.substr(first, last - first));
    at = last;
    i = blanks(last);
    if (text[i] == ',')
      ++i;
    else if (text.compare(i, 4, "and ") == 0)
      i += 4;
    else if (text.compare(i, 3, "to ") == 0)
      i += 3;
    else
      return numbers;
  }
}

/// One line for each citation below `root` that opens nothing: a page or a section that is not there, a page of docs/spec
/// under another name or without a section, a section without a page. Pages may cite each other as their links do.
inline std::vector<std::string> broken_citations(const fs::path& root) {
  std::map<std::string, std::set<std::string>> pages;  // by path from the root
  if (fs::exists(root / "docs/spec"))
    for (const auto& entry : fs::directory_iterator(root / "docs/spec"))
      pages["docs/spec/" + entry.path().filename().string()] = headings(contents(entry.path()));

  std::vector<std::string> broken;
  const auto read = [&](const fs::path& path) {
    const std::string file = fs::relative(path, root).generic_string(), raw = contents(path);
    const bool page = path.extension() == ".md", spec_page = pages.contains(file);
    std::string text = page ? raw : joined(raw);
    if (page) std::replace(text.begin(), text.end(), '\n', ' ');
    const auto report = [&](std::size_t at, const std::string& what) {
      broken.push_back(file + ":" +
                       std::to_string(1 + std::count(raw.begin(), raw.begin() + static_cast<std::ptrdiff_t>(at), '\n')) +
                       ": " + what);
    };
    const auto check = [&](std::size_t at, const std::string& target, const std::vector<std::string>& sections) {
      for (const std::string& section : sections)
        if (!pages.at(target).contains(section)) report(at, target + " has no section " + section);
    };
    std::set<std::size_t> named;  // where sections begin that have a page
    for (std::size_t at = 0; (at = text.find(".md", at)) != std::string::npos;) {
      std::size_t first = at;
      const auto of_path = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_./-").find(c) != std::string_view::npos;
      };
      while (first > 0 && of_path(text[first - 1])) --first;
      at += 3;
      const std::string token = text.substr(first, at - first);
      std::string target = token;
      if (page && !pages.contains(token))
        target = (fs::path(file).parent_path() / token).lexically_normal().generic_string();
      const bool bare = !page && token != "README.md" && pages.contains("docs/spec/" + token);
      const bool ours = bare || target.find("spec/") != std::string::npos;
      if (!ours) continue;
      while (page && at < text.size() && (text[at] == ')' || text[at] == '`')) ++at;  // a link's end
      const std::size_t list = text.find_first_not_of(' ', at);
      const auto sections = section_list(text, at);
      if (!sections.empty()) named.insert(list);
      if (!pages.contains(target)) {
        const bool known = pages.contains("docs/spec/" + fs::path(token).filename().string());
        report(first, token + (known ? ": write docs/spec/" : ": no such page"));
        continue;
      }
      if (sections.empty() && !page) report(first, token + ": which section?");
      check(first, target, sections);
    }
    for (std::size_t at = 1; (at = text.find("ection", at)) != std::string::npos; ++at) {
      const std::size_t first = at - 1;
      std::size_t end = first;
      const auto sections = section_list(text, end);
      if (sections.empty() || named.contains(first)) continue;
      if (spec_page) check(first, file, sections);
      if (!page) report(first, "section " + sections.front() + ": of which page?");
    }
  };

  static const std::set<std::string> kSources = {".h", ".hpp", ".cuh", ".cpp", ".cu", ".py", ".sh", ".txt", ".cmake"};
  for (const char* folder : {"kernels", "engine", "models", "tools", "tests", "include", "examples", "cmake", "docs"}) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string ending = entry.path().extension().string();
      if (entry.path().parent_path() == root / "tests/house") continue;  // plants faults
      if (kSources.contains(ending) || ending == ".md") read(entry.path());
    }
  }
  for (const char* file : {"README.md", "CMakeLists.txt", "Makefile"})
    if (fs::exists(root / file)) read(root / file);
  return broken;
}

}  // namespace frost::house
