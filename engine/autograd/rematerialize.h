#pragma once
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/autograd/context.h"

namespace frost {

/// Gives `var` a rematerialization, where the tape wants rematerializations at all.
inline void make_rematerializable(Context& context, Var& var, std::vector<Saved> sources,
                                  std::function<void(View, const std::vector<Saved>&)> write) {
  if (!context.tape || !context.tape->recompute()) return;
  var.rematerialization = std::make_shared<Rematerialization>(
      Rematerialization{&context.device, var.value.shape(), var.value.dtype(), std::move(sources), std::move(write), {}});
}

}  // namespace frost
