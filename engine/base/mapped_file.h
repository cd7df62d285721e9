#pragma once
#include <cstddef>
#include <filesystem>
#include <span>

namespace frost {

/// The bytes of a file, mapped read-only. Throws frost::Error (missing, a folder, not readable); an empty file has no bytes.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace frost
