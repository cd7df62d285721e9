#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/yolo/data/label_set.h"

/// The result of a label scan, kept for the next run: header, payload, check sum of the payload, little endian as every
/// machine we build for.
namespace frost::yolo {

/// The path of these images' cache: `<labels folder>.frost-cache` or `<list>.frost-cache`, or in `cache_dir`.
std::string label_cache_path(const std::vector<std::string>& paths, const std::string& first_image,
                             const std::string& cache_dir);

/// Paths, sizes and times of change of the images and their label files. YOLOv5 takes the sum of sizes and so misses a class
/// that changed from 1 to 2.
std::uint64_t hash_label_files(const std::vector<std::string>& images, int threads);

/// The set that was stored for exactly these files; nothing where the cache is missing, older or corrupt.
std::optional<LabelSet> read_label_cache(const std::string& path, std::uint64_t files_hash,
                                         const std::vector<std::string>& files);

/// Atomic. Throws Error with the file and the cause.
void write_label_cache(const std::string& path, std::uint64_t files_hash, const LabelSet& set,
                       const std::vector<std::string>& files);

}  // namespace frost::yolo
