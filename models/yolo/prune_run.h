#pragma once
#include "models/slim/prune_run.h"

namespace frost::yolo {

/// The detector in the file that --weights names. Throws Error: one line with the file and the cause.
slim::PruneSubject prune_subject(const slim::PruneConfig& config, Device& device);

}  // namespace frost::yolo
