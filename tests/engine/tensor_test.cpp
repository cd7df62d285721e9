#include <doctest/doctest.h>

#include "engine/tensor/tensor.h"
#include "tests/device.h"

using namespace frost;

TEST_CASE("allocator cuts, joins and reuses") {
  const auto backend = frost::testing::make_device_backend();
  Allocator allocator(*backend);
  void* a = allocator.acquire(1000);
  void* b = allocator.acquire(2000);
  void* c = allocator.acquire(3000);
  CHECK(allocator.backend_allocations() == 1);  // small ones share a segment
  CHECK(static_cast<char*>(b) >= static_cast<char*>(a) + 1000);
  backend->zero(a, 1000), backend->zero(b, 2000), backend->zero(c, 3000);
  allocator.recycle(a);
  allocator.recycle(b);
  CHECK(allocator.acquire(3000) == a);  // the two joined
  allocator.recycle(a);
  allocator.recycle(c);
  const std::size_t reserved = allocator.reserved_bytes();
  void* whole = allocator.acquire(reserved);  // everything joined again
  CHECK(allocator.reserved_bytes() == reserved);
  allocator.recycle(whole);
  void* large = allocator.acquire(std::size_t{20} << 20);
  CHECK(allocator.backend_allocations() == 2);
  allocator.recycle(large);
}

TEST_CASE("ledger accounts bytes by role and scope, with peaks") {
  frost::testing::TestDevice device;
  const Ledger& ledger = device.ledger();
  {
    const Device::ScopeGuard scope(device, "model.0");
    Tensor a(device, {1, 2, 2, 16});  // 256 bytes
    CHECK(ledger.of(Role::activation).current == 256);
    CHECK(ledger.of(Role::activation, "model.0").current == 256);
    a.storage().set_role(Role::saved_activation);
    CHECK(ledger.of(Role::activation).current == 0);
    CHECK(ledger.of(Role::saved_activation, "model.0").current == 256);
    const Tensor slice = a.channels(4, 8);  // shares: no further bytes
    CHECK(ledger.total().current == 256);
  }
  CHECK(ledger.total().current == 0);
  CHECK(ledger.total().peak == 256);
  CHECK(ledger.of(Role::saved_activation).peak == 256);
  device.ledger().reset_peaks();
  CHECK(ledger.total().peak == 0);
}

TEST_CASE("slices and parts share memory; bf16 rounds on the way") {
  frost::testing::TestDevice device;
  std::vector<float> values(2 * 3 * 5);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  Tensor t = Tensor::from(device, {1, 2, 3, 5}, values);
  CHECK(t.to_vector() == values);
  const std::vector<float> middle = t.channels(1, 2).to_vector();
  CHECK(middle == std::vector<float>{1, 2, 6, 7, 11, 12, 16, 17, 21, 22, 26, 27});
  t.channels(4, 1).assign({-1, -2, -3, -4, -5, -6});
  CHECK(t.to_vector()[4] == -1);
  CHECK(t.to_vector()[29] == -6);
  CHECK(t.to_vector()[3] == 3);
  const Tensor part = t.part(10, {1, 1, 1, 5});
  CHECK(part.to_vector() == std::vector<float>{10, 11, 12, 13, -3});
  Tensor half(device, {1, 1, 1, 3}, DType::bf16);
  half.assign({1.0f, 1.00390625f, 3.0f});  // 1 + 2^-8 lies half way: to even
  CHECK(half.to_vector() == std::vector<float>{1.0f, 1.0f, 3.0f});
  CHECK_THROWS_AS(t.channels(3, 3), Error);
  CHECK_THROWS_AS(half.f32(), Error);
}
