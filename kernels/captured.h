#pragma once

namespace frost {

/// Work that was captured between Backend::begin_capture and end_capture: the same calls on the same memory, queued again
/// by a single call on the host. What the calls read in device memory may have changed; shapes and addresses may not.
class Captured {
 public:
  Captured() = default;
  virtual ~Captured() = default;
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  virtual void replay() = 0;
};

}  // namespace frost
