#pragma once
#include <optional>
#include <span>
#include <string_view>

namespace frost {

/// A file that is part of the program: models/graph/yamls/*.yaml, models/yolo/hyps/*.yaml and models/slim/*.html, by file
/// name.
struct BuiltinFile {
  std::string_view name, text;
};

/// The text of a built-in file, asked for by its name with or without ".yaml" ("yolov5n.yaml", "hyp.scratch-low"); nothing
/// where there is none. Only whole names count: a path never names a built-in file.
std::optional<std::string_view> builtin_file(std::string_view name);

/// All of them in order of name, for messages and --help.
std::span<const BuiltinFile> builtin_files();

}  // namespace frost
