#pragma once
#include <memory>

#include "kernels/backend.h"

namespace frost::testing {

/// The CUDA backend's own code (checks, choice of types and vector widths, index arithmetic, kernels' bodies) on the host:
/// kernels/cuda/NAME.h with a launcher that walks every item, in an order of its own, and every block phase by phase. What
/// it does not cover: the launch itself, the hardware's memory, and what cuDNN and cuBLASLt do. Primitives whose kernels
/// have no host form throw.
std::unique_ptr<Backend> make_emulated_backend();

}  // namespace frost::testing
