#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace frost {

/// Records of bytes, kept as long as this object: in memory, or in a file without a name, which disappears however the
/// process ends. For records without real contents (a meta device's) only the sizes are kept.
class ByteStore {
 public:
  /// `folder` empty: in memory. Throws Error where no file can be made there.
  explicit ByteStore(const std::filesystem::path& folder = {}, bool sizes_alone = false);
  ~ByteStore();
  ByteStore(const ByteStore&) = delete;
  ByteStore& operator=(const ByteStore&) = delete;

  /// Appends a record and returns its number. Throws Error naming the folder where the disk is full.
  std::size_t put(std::span<const std::byte> bytes);
  std::size_t size_of(std::size_t record) const { return records_[record].bytes; }
  void get(std::size_t record, std::span<std::byte> to) const;  // `to`: size_of(record) bytes; sizes alone leave it as it is
  std::int64_t bytes() const { return end_; }

 private:
  struct Record {
    std::int64_t offset;
    std::size_t bytes;
    std::unique_ptr<std::byte[]> memory;
  };
  std::filesystem::path folder_;
  bool sizes_alone_;
  int file_ = -1;
  std::int64_t end_ = 0;
  std::vector<Record> records_;
};

}  // namespace frost
