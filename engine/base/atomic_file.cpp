#include "engine/base/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/error.h"

namespace frost {
namespace {

namespace fs = std::filesystem;

/// The temporary file: closed and deleted unless it got its final name.
class TemporaryFile final : public FileSink {
 public:
  TemporaryFile(const fs::path& target, mode_t mode)
      : target_(target),
        name_(target.parent_path() / ("." + target.filename().string() + "." + std::to_string(getpid()) + ".tmp")) {
    buffer_.reserve(kBuffer);
    unlink(name_.c_str());  // only a process that had our id and has ended can have left one
    descriptor_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    check(descriptor_ >= 0);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() override {
    if (descriptor_ >= 0) close(descriptor_);
    if (!renamed_) unlink(name_.c_str());
  }

  void write(const void* data, std::size_t bytes) override {
    const auto* first = static_cast<const char*>(data);
    if (buffer_.size() + bytes <= kBuffer) {
      buffer_.insert(buffer_.end(), first, first + bytes);
      return;
    }
    flush();
    put(first, bytes);
  }

  void take_the_name() {
    flush();
    check(fsync(descriptor_) == 0);  // before the rename: else a power cut may leave the new name on an empty file
    const int closing = descriptor_;
    descriptor_ = -1;
    check(close(closing) == 0);
    check(std::rename(name_.c_str(), target_.c_str()) == 0);
    renamed_ = true;
    const int folder = open(target_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {  // some file systems refuse to sync a folder; the file itself is safe already
      fsync(folder);
      close(folder);
    }
  }

 private:
  static constexpr std::size_t kBuffer = 1 << 16;

  void check(bool fine) const {
    if (!fine) fail("cannot write ", target_.string(), ": ", std::strerror(errno));
  }
  void flush() {
    put(buffer_.data(), buffer_.size());
    buffer_.clear();
  }
  void put(const char* data, std::size_t bytes) {
    while (bytes > 0) {
      const ssize_t written = ::write(descriptor_, data, bytes);
      if (written < 0 && errno == EINTR) continue;
      check(written > 0);
      data += written;
      bytes -= static_cast<std::size_t>(written);
    }
  }

  fs::path target_, name_;
  std::vector<char> buffer_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

/// A file name of the form `.<name>.<pid>.tmp`; process 0 for others.
struct TemporaryName {
  std::string name;
  pid_t pid = 0;
};
TemporaryName parse_temporary(const std::string& file) {
  constexpr std::string_view kEnd = ".tmp";
  if (!file.starts_with('.') || !file.ends_with(kEnd)) return {};
  const std::size_t end = file.size() - kEnd.size(), dot = file.rfind('.', end - 1);
  if (dot == std::string::npos || dot == 0) return {};
  pid_t pid = 0;
  const auto [rest, error] = std::from_chars(file.data() + dot + 1, file.data() + end, pid);
  if (error != std::errc() || rest != file.data() + end || pid <= 0) return {};
  return {file.substr(1, dot - 1), pid};
}

bool alive(pid_t pid) { return kill(pid, 0) == 0 || errno != ESRCH; }

}  // namespace

void write_file_atomically(const fs::path& path, const std::function<void(FileSink&)>& fill) {
  FROST_CHECK(path.has_filename(), "cannot write '", path.string(), "': not a file name");
  std::error_code error;
  fs::path target = fs::weakly_canonical(fs::absolute(path), error);  // follows links, so that a link stays a link
  FROST_CHECK(!error, "cannot write ", path.string(), ": ", error.message());
  const fs::file_status old = fs::status(target, error);
  FROST_CHECK(!fs::exists(old) || fs::is_regular_file(old), "cannot write ", path.string(), ": not a regular file");
  fs::create_directories(target.parent_path(), error);
  FROST_CHECK(!error, "cannot write ", path.string(), ": cannot make the folder ", target.parent_path().string(), ": ",
              error.message());
  const mode_t mode = fs::exists(old) ? static_cast<mode_t>(old.permissions()) & 0777 : 0666;
  TemporaryFile file(target, mode);
  fill(file);
  file.take_the_name();
}

void write_file_atomically(const fs::path& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, [&](FileSink& file) { file.write(bytes.data(), bytes.size()); });
}

void remove_dead_temporaries(const fs::path& folder, const std::function<bool(const std::string& name)>& ours,
                             std::chrono::seconds age) {
  std::error_code error, ignored;
  std::vector<fs::path> dead;  // a folder is not changed while it is read
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const TemporaryName temporary = parse_temporary(it->path().filename().string());
    if (temporary.pid > 0 && !alive(temporary.pid) && ours(temporary.name) &&
        (age.count() == 0 || it->last_write_time(ignored) + age < fs::file_time_type::clock::now()))
      dead.push_back(it->path());
  }
  for (const fs::path& file : dead) unlink(file.c_str());
}

}  // namespace frost
