#include "engine/report/run_folder.h"

#include <system_error>

#include "kernels/error.h"

namespace frost {
namespace fs = std::filesystem;

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && !fs::is_directory(folder)) error = std::make_error_code(std::errc::not_a_directory);
  FROST_CHECK(!error, folder.string(), ": cannot create this folder: ", error.message());
}

fs::path make_run_folder(const fs::path& project, const std::string& name, bool exist_ok) {
  const fs::path first = project / name;
  if (exist_ok) {
    make_folders(first);
    return first;
  }
  make_folders(first.has_parent_path() ? first.parent_path() : fs::path("."));
  for (int n = 1; n < 9999; ++n) {
    const fs::path folder = n == 1 ? first : fs::path(first.string() + std::to_string(n));
    std::error_code error;
    if (fs::create_directory(folder, error)) return folder;  // false: somebody has it already
    const bool occupied = fs::exists(fs::symlink_status(folder));
    FROST_CHECK(occupied, folder.string(), ": cannot create this folder: ", error.message());
  }
  fail(first.string(), ": 9998 runs of this name exist already; choose another --name");
}

}  // namespace frost
