#pragma once
#include <filesystem>
#include <string>

#include "engine/report/observer.h"

namespace frost {

/// Creates a run's folder and returns it: `<project>/<name>`, or name2, name3, ... if that exists and `exist_ok` is not set.
/// Two processes that start together get different folders. Throws Error naming the folder and the cause.
std::filesystem::path make_run_folder(const std::filesystem::path& project, const std::string& name, bool exist_ok = false);

/// Creates a folder and its parents; throws Error naming it and the cause. An existing folder is fine.
void make_folders(const std::filesystem::path& folder);

/// While it exists, no other training writes to `folder`: a lock on `folder`/.lock, which the kernel releases however the
/// process ends. Readers do not wait.
class RunLock {
 public:
  /// Takes the lock, then removes the temporary files that dead processes left in the folder and in its weights/. Throws
  /// Error naming the holder (process, machine, since when) where another process has it. If the file system has no locks,
  /// it warns and continues without.
  explicit RunLock(const std::filesystem::path& folder, Observer& observer = silence());
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

  /// "process 123 on host since 2026-01-31 12:00:00"; "" where no process has the lock of this folder.
  static std::string holder(const std::filesystem::path& folder);

 private:
  int file_ = -1;
};

}  // namespace frost
