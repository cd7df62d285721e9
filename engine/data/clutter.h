#pragma once
#include <string_view>

namespace frost {

/// Files and folders that systems and programs leave among pictures: hidden ones (.ipynb_checkpoints, ._photo.jpg), what a
/// Mac packs beside a zip's files, what Windows keeps for its previews.
inline bool is_clutter(std::string_view name) {
  return name.starts_with('.') || name == "__MACOSX" || name == "Thumbs.db" || name == "desktop.ini";
}

}  // namespace frost
