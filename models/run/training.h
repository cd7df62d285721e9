#pragma once
#include <string>

#include "engine/training/loop.h"

/// What every family's trainer says and does around its loop.
namespace frost::run {

/// "optimizer: SGD(lr=0.01) with parameter groups 57 weight(decay=0.0), 60 weight(decay=0.0005), 60 bias"
std::string optimizer_line(const ParameterArena& arena, OptimizerKind optimizer, double lr0, double decay);

/// Sets the loop where the checkpoint left it, and says so.
void go_on(TrainingLoop& loop, const std::string& checkpoint, int epochs);

/// After the loop: the time of an image, peak memory by role, and where masks are, the zeros of each convolution. `images`:
/// of an epoch.
void print_costs(const TrainingLoop& loop, Module& model, std::int64_t images);

}  // namespace frost::run
