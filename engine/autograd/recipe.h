#pragma once
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/autograd/ops.h"

namespace frost {

/// Gives `var` a recipe, where the tape wants recipes at all.
inline void remember(Context& context, Var& var, std::vector<Saved> sources,
                     std::function<void(View, const std::vector<Saved>&)> write) {
  if (!context.tape || !context.tape->recompute()) return;
  var.origin = std::make_shared<Origin>(
      Origin{&context.device, var.value.shape(), var.value.dtype(), std::move(sources), std::move(write), {}});
}

}  // namespace frost
