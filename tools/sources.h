#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/folder_files.h"
#include "engine/base/interrupt.h"
#include "models/classify/dataset.h"

namespace frost {

/// The pictures that --source names: a file, or those of a folder in the order of their names.
inline std::vector<std::filesystem::path> images_of(const std::string& source) {
  FROST_CHECK(std::filesystem::exists(source), source, ": not found; --source is a picture or a folder of pictures");
  if (!std::filesystem::is_directory(source)) return {source};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(source))
    if (!entry.is_directory() && classify::is_image_file(entry.path()) && !is_clutter(entry.path().filename().string()))
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  FROST_CHECK(!files.empty(), source, ": no pictures in it");
  return files;
}

/// Calls `look` with "image 1/3 PATH: ", the file and its pixels, for each file; of several, those that cannot be decoded
/// are left out with a warning. Returns how many there were.
inline std::size_t for_each_picture(
    const std::string& source, const std::function<void(const std::string&, const std::filesystem::path&, Image)>& look) {
  const std::vector<std::filesystem::path> files = images_of(source);
  const InterruptGuard guard;
  std::size_t seen = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (InterruptGuard::requested()) throw Interrupted("interrupted during prediction");
    Image image;
    try {
      image = classify::read_image(files[i]);
    } catch (const Error& e) {
      if (files.size() == 1) throw;
      fmt::print("WARNING ⚠️ {}: left out\n", e.what());
      continue;
    }
    ++seen;
    look(fmt::format("image {}/{} {}: ", i + 1, files.size(), files[i].string()), files[i], std::move(image));
  }
  FROST_CHECK(seen > 0, source, ": none of ", files.size(), " pictures can be decoded");
  return seen;
}

}  // namespace frost
