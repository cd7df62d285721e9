#pragma once
#include <optional>

#include "models/slim/explain_run.h"

namespace frost::classify {

/// The classifier that --model names or that the file of --weights holds; nothing where the flags name a detector.
std::optional<slim::Subject> explain_subject(const slim::ExplainConfig& config);

}  // namespace frost::classify
