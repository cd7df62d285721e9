#include "engine/report/results_csv.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "engine/base/atomic_file.h"
#include "engine/base/input_file.h"
#include "kernels/error.h"

namespace frost {
namespace fs = std::filesystem;

ResultsCsv::ResultsCsv(fs::path file, std::vector<std::string> columns, int width)
    : file_(std::move(file)), columns_(std::move(columns)), width_(width) {
  std::error_code error;
  if (!fs::exists(file_, error)) return;
  const std::string text = read_text(file_);
  const auto end = text.rfind('\n');
  const auto whole = end == std::string::npos ? 0 : end + 1;
  if (whole == text.size()) return;
  fs::resize_file(file_, whole, error);
  FROST_CHECK(!error, file_.string(), ": cannot drop an unfinished line: ", error.message());
}

bool ResultsCsv::keep(std::int64_t rows) {
  std::error_code error;
  if (!fs::exists(file_, error)) return false;
  std::istringstream in(read_text(file_));
  std::string text, kept, line;
  std::int64_t last = -1;
  for (bool header = true; std::getline(in, line); header = false) {
    text += line + '\n';
    std::istringstream cell(line);
    double epoch = -1;
    if (!header) cell >> epoch;
    const auto number = static_cast<std::int64_t>(epoch);
    if (header || (number > last && number < rows)) kept += line + '\n';
    if (number < rows) last = std::max(last, number);
  }
  if (rows == 0) kept.clear();  // the header comes again with the first row
  if (kept != text) write_file_atomically(file_, std::as_bytes(std::span(kept)));
  return rows > 0 && last == rows - 1;
}

void ResultsCsv::append(std::span<const double> values) {
  FROST_CHECK(values.size() == columns_.size(), file_.string(), ": ", values.size(), " values for ", columns_.size(),
              " columns");
  std::string text;
  std::error_code error;
  const auto size = fs::file_size(file_, error);
  if (error || size == 0) {
    for (std::size_t i = 0; i < columns_.size(); ++i)
      text += fmt::format("{}{:>{}}", i == 0 ? "" : ",", columns_[i], width_);
    text += '\n';
  }
  // Epochs are whole numbers: five digits would make several of them one.
  for (std::size_t i = 0; i < values.size(); ++i)
    text += fmt::format("{}{:>{}.{}g}", i == 0 ? "" : ",", values[i], width_, i == 0 ? 15 : 5);
  text += '\n';
  const int out = open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  FROST_CHECK(out >= 0, file_.string(), ": cannot write: ", std::strerror(errno));
  const off_t before = lseek(out, 0, SEEK_END);
  int cause = 0;
  for (std::size_t done = 0; done < text.size() && cause == 0;) {
    const ssize_t written = write(out, text.data() + done, text.size() - done);
    if (written > 0) done += static_cast<std::size_t>(written);
    if (written <= 0 && errno != EINTR) cause = errno;
  }
  if (cause != 0 && ftruncate(out, before) != 0) cause = errno;  // readers shall not see half a row
  fsync(out);                                                    // some file systems refuse; the row is written
  close(out);
  FROST_CHECK(cause == 0, file_.string(), ": cannot write: ", std::strerror(cause));
}

}  // namespace frost
