#pragma once
#include <string>
#include <vector>

#include "models/yolo/labels.h"

namespace frost::yolo {

/// scan_labels with YOLOv5's progress bar, counts and messages on the terminal.
LabelSet scan_with_progress(const std::vector<std::string>& paths, const std::string& prefix);

/// The prefix colour of YOLOv5's log lines.
std::string bold_blue(const std::string& text);

}  // namespace frost::yolo
