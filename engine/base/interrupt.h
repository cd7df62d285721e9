#pragma once

namespace frost {

/// While it lives, the first Ctrl-C (SIGINT) or SIGTERM only sets a flag, so that the work in hand ends cleanly; a second
/// one ends the process at once.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  static bool requested();
};

}  // namespace frost
