#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace frost {

/// Files and folders that systems and programs create among pictures: hidden ones (.ipynb_checkpoints, ._photo.jpg), what
/// macOS adds to a zip, Windows' preview files.
inline bool is_clutter(std::string_view name) {
  return name.starts_with('.') || name == "__MACOSX" || name == "Thumbs.db" || name == "desktop.ini";
}

/// The text after the last dot of a file's name, in lower case: "jpg"; empty where there is none.
std::string lower_ending(const std::filesystem::path& file);

/// The folders in `folder`, in order of their paths, without is_clutter's. Links to folders count, but not a link to a
/// folder that holds the link: that is a loop.
std::vector<std::filesystem::path> folders_in(const std::filesystem::path& folder);

/// The files in `folder` and the folders below that are `wanted`, without is_clutter's, in order of their paths. Links to
/// folders are followed as by folders_in, and each real folder is searched once: under the path without links, else under
/// the first link. Folders without read permission are skipped.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder,
                                               const std::function<bool(const std::filesystem::path&)>& wanted);

}  // namespace frost
