#pragma once
#include <memory>

#include "kernels/backend.h"

namespace frost::testing {

/// The CUDA backend's own code (checks, choice of types and vector widths, index arithmetic, kernels' bodies) on the host:
/// kernels/cuda/NAME.h with HostLaunch. What it does not cover: the launch itself, the hardware's memory, and what cuDNN and
/// cuBLASLt do: the CPU backend and plain loops stand in for them. `backwards`: the order of blocks and threads.
std::unique_ptr<Backend> make_emulated_backend(bool backwards = false);

}  // namespace frost::testing
