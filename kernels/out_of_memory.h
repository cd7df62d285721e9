#pragma once
#include <cstddef>

#include "kernels/error.h"

namespace frost {

/// The device has no memory left: thrown by allocate(), and where a library needed some. The engine catches it to add what
/// the memory is used for.
class OutOfMemory : public Error {
 public:
  OutOfMemory(const std::string& message, std::size_t wanted) : Error(message), bytes(wanted) {}
  std::size_t bytes;  // that were asked for; 0 where a library does not say
};

}  // namespace frost
