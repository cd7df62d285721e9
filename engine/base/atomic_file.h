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

/// Writes `path` whole or not at all: `fill` writes to a temporary file in the same folder, which is flushed to the disk and
/// then takes the name. If anything fails or `fill` throws, the temporary file is deleted and the old file stays as it was;
/// a process killed on the way leaves the old file whole, and at worst a `.<name>.<pid>.tmp` beside it, which
/// remove_dead_temporaries takes away.
/// Missing parent folders are made. A symbolic link keeps pointing at its target, which is replaced.
void write_file_atomically(const std::filesystem::path& path, const std::function<void(FileSink&)>& fill);
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);

/// Removes from `folder` (not from those below it) the temporary files `.<name>.<pid>.tmp` whose process is not alive on
/// this machine any more, where `ours` accepts the name and the file is older than `age`. Where another machine or container
/// may write to the folder, give an age: its processes are not seen. What cannot be removed is left; a folder that is not
/// there holds none.
void remove_dead_temporaries(const std::filesystem::path& folder, const std::function<bool(const std::string& name)>& ours,
                             std::chrono::seconds age = {});

}  // namespace frost
