#include "engine/base/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>

#include "kernels/error.h"

namespace frost {
namespace {
constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/v";
constexpr std::uint64_t kLongestPointer = 1024;  // bytes, by git-lfs' specification
}  // namespace

InputFile::InputFile(const std::filesystem::path& path) : path_(path) {
  const auto refuse = [&](const char* cause) {
    if (descriptor_ >= 0) close(descriptor_);
    fail(path.string(), ": ", cause);
  };
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // without the last a FIFO waits for its writer
  const int error = errno;
  if (descriptor_ < 0) refuse(error == ENXIO ? "not a regular file" : std::strerror(error));  // ENXIO: a socket
  struct stat info {};
  if (fstat(descriptor_, &info) != 0) refuse(std::strerror(errno));
  if (S_ISDIR(info.st_mode)) refuse("is a folder, not a file");
  if (!S_ISREG(info.st_mode)) refuse("not a regular file");
  size_ = static_cast<std::uint64_t>(info.st_size);
  if (size_ > kLongestPointer) return;
  std::array<char, kPointer.size()> head{};
  if (pread(descriptor_, head.data(), head.size(), 0) == static_cast<ssize_t>(head.size()) &&
      std::string_view(head.data(), head.size()) == kPointer)
    refuse("is a git-lfs pointer, not the file itself (fetch it with git lfs pull)");
}

InputFile::~InputFile() { close(descriptor_); }

std::size_t InputFile::read(std::span<std::byte> to, std::uint64_t offset) const {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t got = pread(descriptor_, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    FROST_CHECK(got >= 0, path_.string(), ": cannot be read: ", std::strerror(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

FileBytes::FileBytes(const InputFile& file, std::uint64_t most) : size_(std::min(file.size(), most)) {
  const auto too_large = [&] { fail(file.path().string(), ": its ", size_, " bytes do not fit into memory"); };
  // If the system overcommits memory, only writing the bytes would show that they do not fit.
  if (size_ > static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)))
    too_large();
  try {
    data_ = std::make_unique_for_overwrite<std::byte[]>(size_);
  } catch (const std::bad_alloc&) {
    too_large();
  }
  FROST_CHECK(file.read({data_.get(), size_}) == size_, file.path().string(), ": became shorter while it was read");
}

std::string read_text(const std::filesystem::path& path) { return std::string(FileBytes(path).text()); }

bool names_a_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  return std::filesystem::exists(status) && !std::filesystem::is_directory(status);
}

}  // namespace frost
