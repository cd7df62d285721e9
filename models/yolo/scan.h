#pragma once
#include <string>
#include <vector>

#include "models/yolo/labels.h"

namespace frost::yolo {

/// scan_labels with YOLOv5's progress bar, counts and messages on the terminal.
LabelSet scan_with_progress(const std::vector<std::string>& paths, const std::string& prefix);

}  // namespace frost::yolo
