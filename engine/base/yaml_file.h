#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace YAML {
class Node;  // <yaml-cpp/yaml.h> costs seconds a file: only where nodes are read
}

namespace frost {

/// Parses one YAML document as PyYAML's safe_load does. `source` names it in errors, which say the line.
///
/// - A key that occurs twice in a map: the last one counts, with a line in `warnings`. It is an Error where `warnings` is
///   null, and below the document's key `unique`.
/// - `<<: *anchor` merges that map, or each of a list of maps; the map's own keys win over merged ones.
/// - Lines may end in LF, CR LF or CR; a byte order mark is skipped. A tab in the indentation, a control character, a second
///   document and a list or map as key are refused, as PyYAML does.
/// - Memory and time stay in proportion to the text: aliases may repeat four times its size, maps and lists nest 100 deep.
YAML::Node parse_yaml(const std::string& text, const std::string& source, std::vector<std::string>* warnings,
                      std::string_view unique = {});

/// The same for a file. Throws as read_text() too.
YAML::Node load_yaml(const std::filesystem::path& file, std::vector<std::string>* warnings, std::string_view unique = {});

}  // namespace frost
