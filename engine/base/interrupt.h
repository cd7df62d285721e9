#pragma once
#include "kernels/error.h"

namespace frost {

/// Thrown by work that sees InterruptGuard::requested(). Code that can say what may be resumed catches it.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// While a guard exists, the first Ctrl-C (SIGINT) or SIGTERM only sets a flag, so that the work ends cleanly; a second one
/// ends the process at once. A handler that the program has of its own stays in place, and afterwards all is as before.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  static bool requested();
};

/// For a process that reports its errors itself: a write beyond the limit of `ulimit -f` fails with "File too large", as one
/// on a full disk does, instead of ending the process by SIGXFSZ.
void ignore_file_size_signal();

}  // namespace frost
