#pragma once
#include <optional>

#include "models/slim/prune_run.h"

namespace frost::classify {

/// The classifier in the file that --weights names; nothing where it holds none. Throws Error: one line with the file and
/// the cause.
std::optional<slim::PruneSubject> prune_subject(const slim::PruneConfig& config, Device& device);

}  // namespace frost::classify
