#pragma once
#include <cstdint>
#include <vector>

#include "kernels/detect.h"
#include "kernels/math/assign.h"

namespace frost::cpu {

using math::Assigned;

/// The list of one level in the order of docs/spec/loss.md section 2, which decides about objectness where entries share a
/// cell. `targets` is (count, 6) as in DetectLoss, already checked, padding included; `anchors` is (anchors, 2) in cells.
/// `out` is overwritten.
void assign_targets(const float* targets, std::int64_t count, std::int64_t rows, std::int64_t columns,
                    const std::vector<float>& anchors, float anchor_t, std::vector<Assigned>& out);

}  // namespace frost::cpu
