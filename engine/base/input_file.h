#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace frost {

/// A regular file, open for reading. Every file that a user names is opened here, so that no call waits for a FIFO's writer
/// and every error names the file and the cause. Throws Error: missing, no permission, "is a folder, not a file", "not a
/// regular file" (FIFO, socket, device), "is a git-lfs pointer ...". A symbolic link counts as what it points to.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::uint64_t size() const { return size_; }  // bytes, when it was opened
  /// Fills `to` with the bytes from `offset` on and returns how many there were: fewer than asked only at the file's end.
  /// Throws Error where the disk fails.
  std::size_t read(std::span<std::byte> to, std::uint64_t offset = 0) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// The bytes of a file, read into memory: if another process shortens or overwrites the file later, they do not change (a
/// mapping would cause SIGBUS). Throws as InputFile, and where the file becomes shorter while it is read.
class FileBytes {
 public:
  explicit FileBytes(const std::filesystem::path& path) : FileBytes(InputFile(path)) {}
  explicit FileBytes(const InputFile& file, std::uint64_t most = UINT64_MAX);  // its first `most` bytes
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_.get()), size_}; }

 private:
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0;
};

/// The whole of a file as text. Throws as FileBytes.
std::string read_text(const std::filesystem::path& path);

/// Does a name that may also mean something else (a built-in model) mean a file? True if it exists and is no folder.
bool names_a_file(const std::filesystem::path& path);

}  // namespace frost
