#include "engine/tensor/device.h"

namespace frost {

Device::Device(std::unique_ptr<Backend> backend, std::string name)
    : backend_(std::move(backend)), name_(std::move(name)), allocator_(*backend_) {
  backend_->set_workspace_source([this](std::size_t bytes) { return keep(bytes); });
}
Device::~Device() { backend_->set_workspace_source({}); }

void Device::explain(const OutOfMemory& error) const {
  fail(error.what(), "; ", ledger_.in_use(),
       ". A smaller --batch-size or --imgsz, --freeze 10 or --precision bf16 need less");
}

void* Device::acquire(std::size_t bytes) {
  return explaining([&] { return allocator_.acquire(bytes); });
}

PersistentWorkspace Device::keep(std::size_t bytes) {
  void* block = explaining([&] { return allocator_.acquire_apart(bytes); });
  const auto accounted = static_cast<std::int64_t>(bytes);
  const Ledger::Scope scope = scope_;
  ledger_.add(Role::workspace, scope, accounted);
  return {block, [this, scope, accounted](void* memory) {
            ledger_.remove(Role::workspace, scope, accounted);
            backend_->release(memory);
          }};
}

}  // namespace frost
