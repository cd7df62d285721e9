#include "engine/report/results_csv.h"

#include <fmt/format.h>

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

void ResultsCsv::keep(std::int64_t rows) {
  std::error_code error;
  if (!fs::exists(file_, error)) return;
  std::istringstream in(read_text(file_));
  std::string text, line;
  for (std::int64_t i = 0; i <= rows && std::getline(in, line); ++i) text += line + '\n';
  if (rows == 0) text.clear();  // the header comes again with the first row
  write_file_atomically(file_, std::as_bytes(std::span(text)));
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
  for (std::size_t i = 0; i < values.size(); ++i) text += fmt::format("{}{:>{}.5g}", i == 0 ? "" : ",", values[i], width_);
  text += '\n';
  std::ofstream out(file_, std::ios::binary | std::ios::app);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  FROST_CHECK(out, file_.string(), ": cannot write: ", std::strerror(errno));
}

}  // namespace frost
