#pragma once
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace frost {

/// Takes the bytes of a file that is being written. Errors (a full disk) throw frost::Error with the file and the cause.
class FileSink {
 public:
  virtual ~FileSink() = default;
  virtual void write(const void* data, std::size_t bytes) = 0;
  void write(std::string_view text) { write(text.data(), text.size()); }
};

/// Writes `path` completely or not at all: `fill` writes to a temporary file in the same folder, which is flushed to the
/// disk and then renamed. If anything fails or `fill` throws, the temporary file is deleted and the old file is unchanged.
/// If the process is killed meanwhile, the old file is complete; a `.<name>.<pid>.tmp` may remain, which
/// remove_dead_temporaries removes. Missing parent folders are made. A symbolic link keeps pointing at its target, which is
/// replaced.
void write_file_atomically(const std::filesystem::path& path, const std::function<void(FileSink&)>& fill);
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);

/// Removes from `folder` (not from those below it) the temporary files `.<name>.<pid>.tmp` whose process no longer runs on
/// this machine, where `ours` accepts the name and the file is older than `age`. If another machine or container may write
/// to the folder, give an age: its processes cannot be seen. Files that cannot be removed stay. A missing folder is no
/// error.
void remove_dead_temporaries(const std::filesystem::path& folder, const std::function<bool(const std::string& name)>& ours,
                             std::chrono::seconds age = {});

}  // namespace frost
