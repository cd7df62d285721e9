#pragma once
#include <memory>

#include "kernels/backend.h"

namespace frost::testing {

/// May the host touch the device's memory? On a GPU it cannot. Closing it costs two calls of the system for each kernel, ten
/// times the kernels' own time in a long training.
enum class HostAccess { closed, open };

/// The CUDA backend's own code (checks, choice of types and vector widths, index arithmetic, kernels' bodies) on the host:
/// kernels/cuda/NAME.h with HostLaunch, with the CPU backend and plain loops in place of cuDNN and cuBLASLt. Where
/// memory is closed, its pages are so outside of kernels and copies, and who reads or writes there ends with a segmentation
/// fault. What it does not cover: the launch itself, and what cuDNN and cuBLASLt do. `backwards`:
/// the order of blocks and threads.
std::unique_ptr<Backend> make_emulated_backend(bool backwards = false, HostAccess access = HostAccess::closed);

}  // namespace frost::testing
