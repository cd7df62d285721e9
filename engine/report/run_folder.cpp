#include "engine/report/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <system_error>

#include "engine/base/atomic_file.h"
#include "kernels/error.h"

namespace frost {
namespace fs = std::filesystem;
namespace {

fs::path lock_file(const fs::path& folder) { return folder / ".lock"; }

/// Calls `done` until it is true, for a tenth of a second at most. holder() takes the lock for a moment to look at it: a
/// training that starts meanwhile must not take it for another training.
template <class Done>
void wait_until(const Done& done) {
  for (int tries = 0; tries < 50 && !done(); ++tries) usleep(2000);
}

/// The files that a training writes: options and numbers, plots, checkpoints, kept features (ByteStore).
bool is_run_file(const std::string& name) {
  const auto names = {"opt.yaml", "hyp.yaml", "results.csv", "summary.json", "confusion_matrix.csv"};
  const bool plot =
      name.ends_with(".jpg") && (name.starts_with("train_") || name.starts_with("val_") || name.starts_with("test_"));
  return std::find(names.begin(), names.end(), name) != names.end() || plot || name.ends_with(".safetensors") ||
         name.starts_with("store-");
}

/// The holder's text in the file. The text of an earlier holder, whose process has ended, is not reported.
std::string text_in(int file) {
  std::array<char, 512> text{};
  const ssize_t bytes = pread(file, text.data(), text.size(), 0);
  const std::string said(text.data(), bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
  int pid = 0;
  std::array<char, 256> host{}, here{};
  const bool whole =
      said.find('\n') != std::string::npos && std::sscanf(said.c_str(), "process %d on %255s", &pid, host.data()) == 2;
  const bool local = gethostname(here.data(), here.size() - 1) == 0 && std::string(here.data()) == host.data();
  const bool dead = local && kill(pid, 0) != 0 && errno == ESRCH;
  return !whole || dead ? "another process" : said.substr(0, said.find('\n'));
}

std::string this_process() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 32> since{};
  std::strftime(since.data(), since.size(), "%Y-%m-%d %H:%M:%S", &local);
  return fmt::format("process {} on {} since {}", getpid(), host.data(), since.data());
}

}  // namespace

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && !fs::is_directory(folder)) error = std::make_error_code(std::errc::not_a_directory);
  FROST_CHECK(!error, folder.string(), ": cannot create this folder: ", error.message());
}

fs::path make_run_folder(const fs::path& project, const std::string& name, bool exist_ok) {
  const fs::path first = project / name;
  if (exist_ok) {
    make_folders(first);
    return first;
  }
  make_folders(first.has_parent_path() ? first.parent_path() : fs::path("."));
  for (int n = 1; n < 9999; ++n) {
    const fs::path folder = n == 1 ? first : fs::path(first.string() + std::to_string(n));
    std::error_code error;
    if (fs::create_directory(folder, error)) return folder;  // false: another process made it
    const bool occupied = fs::exists(fs::symlink_status(folder));
    FROST_CHECK(occupied, folder.string(), ": cannot create this folder: ", error.message());
  }
  fail(first.string(), ": 9998 runs of this name exist already; choose another --name");
}

RunLock::RunLock(const fs::path& folder, Observer& observer) {
  const fs::path file = lock_file(folder);
  file_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  FROST_CHECK(file_ >= 0, file.string(), ": cannot write: ", std::strerror(errno));
  int cause = 0;
  wait_until([&] { return (cause = flock(file_, LOCK_EX | LOCK_NB) == 0 ? 0 : errno) != EWOULDBLOCK; });
  if (cause == 0) {
    const std::string text = this_process() + "\n";
    // The text is only what another process says about this one: a full disk does not matter here.
    if (ftruncate(file_, 0) != 0 || pwrite(file_, text.data(), text.size(), 0) < 0) errno = 0;
  } else {
    if (cause == EWOULDBLOCK) {
      const std::string who = text_in(file_);
      close(file_);
      fail(folder.string(), ": in use by ", who, ": two trainings cannot write to one folder");
    }
    observer.warning(fmt::format("WARNING: {}: cannot be locked ({}); no second training may write to this folder\n",
                                 folder.string(), std::strerror(cause)));
  }
  for (const fs::path& part : {folder, folder / "weights"}) remove_dead_temporaries(part, is_run_file);
}

RunLock::~RunLock() { close(file_); }

std::string RunLock::holder(const fs::path& folder) {
  const int file = open(lock_file(folder).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return "";
  const bool taken = flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  std::string who = taken ? text_in(file) : "";
  close(file);
  return who;
}

}  // namespace frost
