#pragma once
#include <string>

namespace frost {

/// The colours of YOLOv5's log lines.
inline std::string bold(const std::string& text) { return "\033[1m" + text + "\033[0m"; }
inline std::string bold_blue(const std::string& text) { return "\033[34m\033[1m" + text + "\033[0m"; }

}  // namespace frost
