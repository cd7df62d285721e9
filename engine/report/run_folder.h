#pragma once
#include <filesystem>
#include <string>

namespace frost {

/// Creates a run's folder and returns it: `<project>/<name>`, or name2, name3, ... if that exists and `exist_ok` is not set.
/// Two processes that start together get different folders. Throws Error naming the folder and the cause.
std::filesystem::path make_run_folder(const std::filesystem::path& project, const std::string& name, bool exist_ok = false);

/// Creates a folder and its parents; throws Error naming it and the cause. An existing folder is fine.
void make_folders(const std::filesystem::path& folder);

}  // namespace frost
