#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

struct zip;

namespace frost {

/// Reads the entries of a zip file in memory: stored ones, and deflated ones (files that were zipped again). Throws
/// frost::Error (without the file's name, which the caller knows) for what docs/spec/checkpoint.md section 7 refuses.
class ZipArchive {
 public:
  /// `bytes` must outlive the archive.
  explicit ZipArchive(std::span<const std::byte> bytes);

  /// Names in the order of the central directory.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const { return index_.count(std::string(name)) != 0; }
  std::uint64_t size(const std::string& name) const;
  /// The bytes of an entry, its CRC verified.
  std::vector<std::byte> read(const std::string& name) const;

 private:
  struct Entry {
    std::uint64_t index, size;
  };
  const Entry& entry(const std::string& name) const;

  std::unique_ptr<struct zip, void (*)(struct zip*)> zip_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, Entry> index_;
};

}  // namespace frost
