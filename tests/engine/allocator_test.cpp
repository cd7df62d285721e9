#include "engine/tensor/allocator.h"

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>

#include "engine/tensor/tensor.h"
#include "kernels/out_of_memory.h"
#include "tests/recording_backend.h"

using namespace frost;

namespace {

constexpr std::size_t kMB = std::size_t{1} << 20;

/// A device with little memory, and its accounts.
struct Memory {
  std::size_t budget, used = 0, allocations = 0;
  std::map<void*, std::size_t> sizes{};
};
class SmallDevice final : public frost::testing::RecordingBackend {
 public:
  explicit SmallDevice(Memory& memory) : memory_(memory) {}
  void* allocate(std::size_t bytes) override {
    if (memory_.used + bytes > memory_.budget)
      throw OutOfMemory("out of memory on small device: " + std::to_string(bytes) + " bytes asked for", bytes);
    void* block = RecordingBackend::allocate(bytes);
    memory_.used += memory_.sizes[block] = bytes;
    ++memory_.allocations;
    return block;
  }
  void set_workspace_source(PersistentWorkspaceSource source) override {
    scratch = {};
    source_ = std::move(source);
  }
  /// As a primitive that needs a workspace.
  void need(std::size_t bytes) {
    scratch = {};
    scratch = source_(bytes);
  }
  PersistentWorkspace scratch;

  void release(void* block) noexcept override {
    memory_.used -= memory_.sizes[block];
    memory_.sizes.erase(block);
    RecordingBackend::release(block);
  }

 private:
  Memory& memory_;
  PersistentWorkspaceSource source_;
};

Tensor megabytes(Device& device, std::int64_t count, Role role = Role::activation) {
  return Tensor(device, {1, 1, 1, count * static_cast<std::int64_t>(kMB)}, DType::u8, role);
}

}  // namespace

TEST_CASE("the cache goes back to the device before memory is called out") {
  Memory small{.budget = 100 * kMB};
  Device device(std::make_unique<SmallDevice>(small));
  { const Tensor first = megabytes(device, 60); }
  CHECK(small.used == 60 * kMB);                // kept
  const Tensor second = megabytes(device, 70);  // does not fit beside the cached block
  CHECK(small.used == 70 * kMB);
  CHECK(device.allocator().reserved_bytes() == 70 * kMB);
  const Tensor third = megabytes(device, 30);
  CHECK(small.used == 100 * kMB);
}

TEST_CASE("out of memory: one line that says what holds it and what would need less") {
  Memory small{.budget = 100 * kMB};
  Device device(std::make_unique<SmallDevice>(small));
  const Tensor weights = megabytes(device, 30, Role::parameter);
  Tensor saved;
  {
    const Device::ScopeGuard scope(device, "model.4.m.0");
    saved = megabytes(device, 40, Role::saved_activation);
  }
  std::string said;
  try {
    megabytes(device, 50);
  } catch (const Error& error) {
    said = error.what();
  }
  CHECK(said ==
        "out of memory on small device: 52428800 bytes asked for; 73.4 MB in use: saved activation 41.9 MB, parameter 31.5 "
        "MB; most in model.4.m.0 (41.9 MB). A smaller --batch-size or --imgsz, --freeze 10 or --precision bf16 need less");
  CHECK(device.ledger().total().current == 70 * static_cast<std::int64_t>(kMB));  // nothing is accounted for what failed
  saved = Tensor();
  CHECK_NOTHROW(megabytes(device, 50));  // and the run could go on
}

TEST_CASE("what a backend keeps for itself is in the accounts, and not cut from the cache") {
  Memory small{.budget = 100 * kMB};
  auto owned = std::make_unique<SmallDevice>(small);
  SmallDevice& backend = *owned;
  {
    Device device(std::move(owned));
    const Ledger& ledger = device.ledger();
    constexpr auto kMegabyte = static_cast<std::int64_t>(kMB);
    { const Tensor cached = megabytes(device, 60); }
    {
      const Device::ScopeGuard scope(device, "model.1.conv");
      backend.need(20 * kMB);
    }
    CHECK(small.used == 80 * kMB);
    CHECK(ledger.of(Role::workspace, "model.1.conv").current == 20 * kMegabyte);
    CHECK(ledger.total().current == 20 * kMegabyte);
    backend.need(70 * kMB);  // the cache makes room for it
    CHECK(small.used == 70 * kMB);
    CHECK(ledger.of(Role::workspace, "model.1.conv").current == 0);
    CHECK(ledger.of(Role::workspace, "").current == 70 * kMegabyte);
    PersistentWorkspace recording = backend.scratch;  // captured work holds on to what it uses
    backend.need(30 * kMB);
    CHECK(ledger.total().current == 100 * kMegabyte);
    recording = {};
    CHECK(ledger.total().current == 30 * kMegabyte);
    std::string said;
    try {
      backend.need(200 * kMB);
    } catch (const Error& error) {
      said = error.what();
    }
    CHECK(said.find("209715200 bytes asked for; 0.0 MB in use") != std::string::npos);
    CHECK(said.find("--batch-size") != std::string::npos);
    backend.need(10 * kMB);
  }
  CHECK(small.used == 0);  // the device takes everything with it
}

TEST_CASE("a small request still fits where a whole segment does not") {
  Memory small{.budget = 3 * kMB};
  Device device(std::make_unique<SmallDevice>(small));
  CHECK_NOTHROW(megabytes(device, 2));
}

TEST_CASE("a pool keeps its blocks to itself, and leaves them to everybody when it goes") {
  Memory small{.budget = 1000 * kMB};
  Device device(std::make_unique<SmallDevice>(small));
  Allocator& allocator = device.allocator();
  void* shared = allocator.acquire(10 * kMB);
  allocator.recycle(shared);
  auto pool = std::make_unique<Allocator::Pool>(allocator);
  void *inside = nullptr, *kept = nullptr;
  {
    const Allocator::PoolGuard guard(allocator, *pool);
    inside = allocator.acquire(10 * kMB);
    CHECK(inside != shared);
    allocator.recycle(inside);
    CHECK(allocator.acquire(10 * kMB) == inside);  // used again inside
    allocator.recycle(inside);
    kept = allocator.acquire(kMB);
  }
  CHECK(allocator.acquire(10 * kMB) == shared);  // never a block of the pool's
  allocator.recycle(shared);
  allocator.trim();
  CHECK(allocator.reserved_bytes() == small.used);
  CHECK(small.used == 10 * kMB);  // the pool's segment stays: captured work has addresses in them
  const std::size_t allocations = small.allocations;
  pool.reset();
  void* now = allocator.acquire(9 * kMB);  // from what the pool left
  CHECK(small.allocations == allocations);
  allocator.recycle(now);
  allocator.recycle(kept);  // outlived its pool
  allocator.trim();
  CHECK(small.used == 0);
}
