#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace frost {

/// Files and folders that systems and programs leave among pictures: hidden ones (.ipynb_checkpoints, ._photo.jpg), what a
/// Mac packs beside a zip's files, what Windows keeps for its previews.
inline bool is_clutter(std::string_view name) {
  return name.starts_with('.') || name == "__MACOSX" || name == "Thumbs.db" || name == "desktop.ini";
}

/// What stands after the last dot of a file's name, in lower case: "jpg"; empty where there is none.
std::string lower_ending(const std::filesystem::path& file);

/// The folders in `folder`, in order of their paths, without is_clutter's. Links to folders count, but not a link to a
/// folder that holds the link: that is a loop.
std::vector<std::filesystem::path> folders_in(const std::filesystem::path& folder);

/// What is no folder, in `folder` and the folders below, without is_clutter's and what is not `wanted`; in order of the
/// paths. Links to folders are followed as by folders_in, each real folder is gone through once: where more than one path
/// leads there, by the one without links, else by the first link. Folders that may not be read are passed over.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder,
                                               const std::function<bool(const std::filesystem::path&)>& wanted);

}  // namespace frost
