#pragma once
#include <cstddef>
#include <functional>
#include <memory>

namespace frost {

/// A block of device memory that a backend keeps between calls: a workspace, filters in a kernel's own order, an area of
/// transfers. It is released, in the order of the calls, with its last owner.
using PersistentWorkspace = std::shared_ptr<void>;

/// Makes such a block. Throws where there is no memory.
using PersistentWorkspaceSource = std::function<PersistentWorkspace(std::size_t bytes)>;

}  // namespace frost
