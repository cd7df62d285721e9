#pragma once
#include <memory>
#include <string>

#include "engine/tensor/allocator.h"
#include "engine/tensor/ledger.h"
#include "kernels/backend.h"
#include "kernels/out_of_memory.h"

namespace frost {

/// A device: its kernels, its memory and the ledger. It must outlive every tensor on it.
class Device {
 public:
  explicit Device(std::unique_ptr<Backend> backend, std::string name = "cpu");
  /// "auto" (CUDA where it is usable, else the CPU), "cpu", "cuda", "cuda:1". Throws Error that says why a device cannot be
  /// used.
  explicit Device(const std::string& name);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// "cpu", "cuda:1": what opens such a device again.
  const std::string& name() const { return name_; }
  Backend& backend() { return *backend_; }
  Ledger& ledger() { return ledger_; }
  Allocator& allocator() { return allocator_; }
  Ledger::Scope scope() const { return scope_; }

  /// Memory for a tensor. If none is left: an Error that says what the memory is used for and which settings need less.
  void* acquire(std::size_t bytes);
  /// What `work` returns; where it finds no memory left, the same Error.
  template <class Work>
  auto explaining(const Work& work) const {
    try {
      return work();
    } catch (const OutOfMemory& error) {
      explain(error);
    }
  }

  /// While it exists, allocations are accounted under the module path `name`.
  class ScopeGuard {
   public:
    ScopeGuard(Device& device, const std::string& name) : ScopeGuard(device, device.ledger_.scope(name)) {}
    ScopeGuard(Device& device, Ledger::Scope scope) : device_(device), before_(device.scope_) { device.scope_ = scope; }
    ~ScopeGuard() { device_.scope_ = before_; }
    ScopeGuard(const ScopeGuard&) = delete;
    ScopeGuard& operator=(const ScopeGuard&) = delete;

   private:
    Device& device_;
    Ledger::Scope before_;
  };

 private:
  PersistentWorkspace keep(
      std::size_t bytes);  // for the backend itself: accounted as workspace, under the scope that needed it
  [[noreturn]] void explain(const OutOfMemory& error) const;

  std::unique_ptr<Backend> backend_;
  std::string name_;
  Allocator allocator_;
  Ledger ledger_;
  Ledger::Scope scope_ = 0;
};

}  // namespace frost
