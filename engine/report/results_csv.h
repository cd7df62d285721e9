#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace frost {

/// A table that grows by one row at a time and is read by people and by plots while it grows: cells of one width,
/// five significant digits, commas between them (docs/spec/train.md section 10). The first column counts the rows from 0.
/// Each row is one write, flushed to the disk. So a crash loses at most the last row.
class ResultsCsv {
 public:
  /// Appends to `file` if it exists, first dropping an unfinished last line; otherwise the first append writes the header.
  /// A run that begins anew calls keep(0).
  ResultsCsv(std::filesystem::path file, std::vector<std::string> columns, int width = 20);
  /// Keeps the header and the rows numbered below `rows` (what a resumed run has finished), atomically. Returns whether the
  /// last one of them, rows - 1, is there.
  bool keep(std::int64_t rows);
  /// One value for each column. Throws Error naming the file if it cannot be written.
  void append(std::span<const double> values);
  const std::filesystem::path& file() const { return file_; }
  const std::vector<std::string>& columns() const { return columns_; }

 private:
  std::filesystem::path file_;
  std::vector<std::string> columns_;
  int width_;
};

}  // namespace frost
