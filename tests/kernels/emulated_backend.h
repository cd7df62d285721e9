#pragma once
#include <memory>

#include "kernels/backend.h"

namespace frost::testing {

/// The CUDA backend's own code (checks, choice of types and vector widths, index arithmetic, kernels' bodies) on the host:
/// kernels/cuda/NAME.h with HostLaunch, with the CPU backend and plain loops in place of cuDNN and cuBLASLt. As on a GPU the
/// host cannot touch the device's memory: outside of kernels and copies its pages are closed, and who reads or writes there
/// ends with a segmentation fault. What it does not cover: the launch itself, and what cuDNN and cuBLASLt do. `backwards`:
/// the order of blocks and threads.
std::unique_ptr<Backend> make_emulated_backend(bool backwards = false);

}  // namespace frost::testing
