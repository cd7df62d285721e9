#include "kernels/cuda/plan_store.h"

#include <unistd.h>

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <system_error>

namespace frost::cuda {
namespace fs = std::filesystem;
namespace {

// A line to a convolution: some hundred bytes. More than this is no file of ours.
constexpr std::uintmax_t kMostBytes = 16u << 20;
constexpr std::size_t kSaveEvery = 32;

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
  fs::create_directories(path_.parent_path());
  fs::path fresh = path_;
  fresh += "." + std::to_string(getpid());
  {
    std::ofstream file(fresh);
    file << header_ << '\n';
    for (const auto& [name, entry] : entries)
      file << name << ' ' << to_text(entry.choice) << ' ' << entry.microseconds << '\n';
    file << "end " << entries.size() << '\n';
    file.close();
    if (!file) {
      std::error_code ignored;
      fs::remove(fresh, ignored);
      fail("cannot write ", fresh.string());
    }
  }
  fs::rename(fresh, path_);
} catch (const std::exception& e) {
  std::fprintf(stderr, "frost: convolution plans are not kept: %s\n", e.what());
}

}  // namespace frost::cuda
