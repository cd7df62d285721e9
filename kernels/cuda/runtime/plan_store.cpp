#include "kernels/cuda/runtime/plan_store.h"

#include <unistd.h>

#include <cctype>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>

#include "kernels/error.h"

namespace frost::cuda {
namespace fs = std::filesystem;
namespace {

// A line to a convolution: some hundred bytes. More than this is no file of ours.
constexpr std::uintmax_t kMostBytes = 16u << 20;
constexpr std::size_t kSaveEvery = 32;

/// FNV-1a, 64 bits.
std::uint64_t hash(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

/// A new file in the place of an old one, or the old one as it was.
void replace_file(const fs::path& path, const std::string& content) {
  fs::create_directories(path.parent_path());
  fs::path fresh = path;
  fresh += "." + std::to_string(getpid());
  std::ofstream file(fresh, std::ios::binary);
  file << content;
  file.close();
  if (!file) {
    std::error_code ignored;
    fs::remove(fresh, ignored);
    fail("cannot write ", fresh.string());
  }
  fs::rename(fresh, path);
}

void not_kept(const std::exception& e) { std::fprintf(stderr, "frost: convolution plans are not kept: %s\n", e.what()); }

fs::path variable(const char* name) {
  const char* value = std::getenv(name);
  return value && value[0] == '/' ? value : "";
}

}  // namespace

fs::path plan_folder() {
  if (const auto xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg / "frost" / "plans";
  const auto home = variable("HOME");
  return (home.empty() ? fs::path("/tmp") : home / ".cache") / "frost" / "plans";
}

PlanStore::PlanStore(const fs::path& folder, std::size_t version, const std::string& device)
    : header_("frost plans 1, cuDNN " + std::to_string(version) + ", " + device) {
  std::string name = device;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  path_ = folder / ("cudnn-" + std::to_string(version) + "-" + name + ".txt");
  entries_ = read(true);
}

PlanStore::~PlanStore() { save(); }

std::optional<PlanStore::Entry> PlanStore::find(const ConvKey& key) const {
  const auto it = entries_.find(identifier(key));
  if (it == entries_.end()) return {};
  return it->second;
}

void PlanStore::put(const ConvKey& key, const Entry& entry) {
  const std::string name = identifier(key);
  entries_[name] = fresh_[name] = entry;
  if (fresh_.size() >= kSaveEvery) save();
}

/// The file: a header, one line "convolution engine microseconds" to an entry, and the number of entries, without which it
/// counts as cut off.
std::map<std::string, PlanStore::Entry> PlanStore::read(bool complain) const {
  std::error_code error;
  if (!fs::exists(path_, error)) return {};
  const auto ignored = [&](const char* why) {
    if (complain) std::fprintf(stderr, "frost: %s is ignored: %s\n", path_.c_str(), why);
    return std::map<std::string, Entry>{};
  };
  if (const auto bytes = fs::file_size(path_, error); error || bytes > kMostBytes) return ignored("not a list of plans");
  std::ifstream file(path_);
  std::string line;
  if (!std::getline(file, line) || line != header_) return ignored("not a list of plans for this cuDNN and device");
  std::map<std::string, Entry> entries;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name, choice;
    Entry entry;
    words >> name;
    if (name == "end") {
      std::size_t count = 0;
      if (words >> count && count == entries.size()) return entries;
      return ignored("its number of lines is wrong");
    }
    if (!(words >> choice >> entry.microseconds) || !std::isfinite(entry.microseconds)) return ignored("a line is broken");
    const auto parsed = engine_choice(choice);
    if (!parsed) return ignored("a line is broken");
    entry.choice = *parsed;
    entries[name] = entry;
  }
  return ignored("its end is missing");
}

void PlanStore::save() noexcept try {
  if (fresh_.empty()) return;
  auto entries = read(false);
  for (const auto& [name, entry] : fresh_) entries[name] = entry;
  fresh_.clear();  // tried once: a full disk is no reason to try again for every convolution
  std::ostringstream text;
  text << header_ << '\n';
  for (const auto& [name, entry] : entries)
    text << name << ' ' << to_text(entry.choice) << ' ' << entry.microseconds << '\n';
  text << "end " << entries.size() << '\n';
  replace_file(path_, text.str());
} catch (const std::exception& e) {
  not_kept(e);
}

fs::path PlanStore::compiled_path(const ConvKey& key) const {
  char name[32];
  std::snprintf(name, sizeof name, "%016" PRIx64 ".plan", hash(identifier(key)));
  return fs::path(path_).replace_extension() / name;
}

/// The file: "convolution hash-of-the-plan", a line's end, the plan.
std::optional<std::string> PlanStore::compiled(const ConvKey& key) const {
  std::error_code error;
  const fs::path path = compiled_path(key);
  if (const auto bytes = fs::file_size(path, error); error || bytes > kMostBytes) return {};
  std::ifstream file(path, std::ios::binary);
  std::string name, plan;
  std::uint64_t expected = 0;
  if (!(file >> name >> expected) || name != identifier(key) || file.get() != '\n') return {};
  plan.assign(std::istreambuf_iterator<char>(file), {});
  if (hash(plan) != expected) return {};
  return plan;
}

void PlanStore::put_compiled(const ConvKey& key, const std::string& plan) noexcept try {
  replace_file(compiled_path(key), detail::join(identifier(key), ' ', hash(plan), '\n', plan));
} catch (const std::exception& e) {
  not_kept(e);
}

}  // namespace frost::cuda
