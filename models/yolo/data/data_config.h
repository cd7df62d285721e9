#pragma once
#include <string>
#include <vector>

namespace frost::yolo {

/// What a dataset YAML says (docs/spec/data.md section 1). Paths are absolute, with symbolic links resolved.
struct DataConfig {
  std::string yaml;                           // the file itself, as given
  std::string root;                           // the folder that relative entries belong to
  std::vector<std::string> train, val, test;  // folders, or .txt files that list images
  std::vector<std::string> names;             // class index -> name
  std::vector<std::string> warnings;          // oddities of the file, a line each
  std::string download;                       // what YOLOv5 would fetch; frost reports it and stops

  /// The paths of "train", "val" or "test". Throws Error where the file names none.
  const std::vector<std::string>& split(const std::string& key) const;
  int class_count() const { return static_cast<int>(names.size()); }
  /// `val` is COCO val2017, so that COCO's own annotations and 91 category ids apply.
  bool is_coco() const;
};

/// Reads a dataset YAML. `train`, `val` and `names` are required, `nc` is ignored (the number of names counts).
///
/// A relative `path` is tried from the YAML file's own folder first, then from the current directory (YOLOv5 takes its
/// repository's root, which frost has none of); the first under which every `val` entry exists wins. An entry that starts
/// with `../` and does not exist is tried without it.
///
/// Throws Error (one line, with the file's name and the line where the YAML is malformed). `val` entries must exist unless
/// `must_exist` is false.
DataConfig load_data_config(const std::string& yaml, bool must_exist = true);

}  // namespace frost::yolo
