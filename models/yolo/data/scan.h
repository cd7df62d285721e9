#pragma once
#include <string>
#include <vector>

#include "engine/report/observer.h"
#include "models/yolo/data/labels.h"

namespace frost::yolo {

/// scan_labels with YOLOv5's progress bar, counts and messages for the observer.
LabelSet scan_with_progress(const std::vector<std::string>& paths, const std::string& prefix, Observer& observer);

}  // namespace frost::yolo
