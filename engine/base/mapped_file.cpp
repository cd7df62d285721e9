#include "engine/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace frost {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  FROST_CHECK(file >= 0, path.string(), ": ", std::strerror(errno));
  struct stat info {};
  const bool known = fstat(file, &info) == 0;
  const char* cause = nullptr;
  void* data = nullptr;
  if (!known || !S_ISREG(info.st_mode)) {
    cause = known && S_ISDIR(info.st_mode) ? "is a folder, not a file" : "not a regular file";
  } else if (info.st_size > 0) {  // mmap refuses an empty file
    data = mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) cause = std::strerror(errno);
  }
  close(file);
  FROST_CHECK(!cause, path.string(), ": ", cause);
  if (data) bytes_ = {static_cast<const std::byte*>(data), static_cast<std::size_t>(info.st_size)};
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}
MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace frost
