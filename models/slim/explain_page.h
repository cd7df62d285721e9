#pragma once
#include <string>
#include <vector>

#include "models/slim/explain.h"

namespace frost::slim {

/// What the page shows around the numbers.
struct PageText {
  std::string model, setting, footer;
  int backbone = 0;   // layers of the backbone; 0: there is no such thing
  int start = 0;      // the slider's first position
  std::string asked;  // the terms of --freeze where they are no number of layers
};

/// The self-contained HTML page (models/slim/explain.html): `freezes[n]` is the step with the first n rows, the layers that
/// --freeze counts, frozen; one more, where `asked` is set, is the step that it names.
std::string explain_page(const PageText& text, const std::vector<StepReport>& freezes);

}  // namespace frost::slim
