#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/yolo/data/label_set.h"

namespace frost::yolo {

struct ScanOptions {
  std::string cache_dir{};  // where the cache file goes; empty: beside the labels folder
  int threads = 0;          // 0: one for each core, 8 at most
  std::string prefix{};     // of messages: "train: ", "val: "
  std::function<void(std::int64_t done, std::int64_t total)> progress{};  // called on the calling thread
};

/// Image files below folders (files_below's: no clutter, no loops) and in .txt lists, ordered by path; docs/spec/data.md
/// section 2. A list's lines that begin with "./" belong to the list's folder; blanks around a line do not count. `messages`
/// says which lists name something else. Throws Error if a path is missing or no image is found.
std::vector<std::string> list_images(const std::vector<std::string>& paths, const std::string& prefix = "",
                                     std::vector<std::string>* messages = nullptr);

/// Parses a label file's text by the rules of docs/spec/data.md section 4, steps 7 to 14. Throws Error with the reason (no
/// file name).
Labels parse_labels(const std::string& text);

/// Checks every image (probe_image) and its label file (docs/spec/data.md section 4), or takes the result from the cache
/// file of an earlier run: `<labels folder>.frost-cache`, or `<list>.frost-cache`. The cache is used if no file's path, size
/// or time of change differs; a corrupt one is rebuilt silently. If the folder cannot be written, there is only a message.
LabelSet scan_labels(const std::vector<std::string>& paths, const ScanOptions& options = {});

/// Throws Error where a class is not below `classes`; it names the label file, and `data`, the dataset file.
void check_classes(const LabelSet& set, int classes, const std::string& data);

/// For --strict: throws Error with the reason for the first image that was left out as corrupt, or whose label is no file.
void check_not_corrupt(const LabelSet& set);

/// Training needs labels: throws Error where no label file was found, all are empty, or a class is not below `classes`.
/// `data` is the dataset file that the message names.
void check_trainable(const LabelSet& set, int classes, const std::string& data);

}  // namespace frost::yolo
