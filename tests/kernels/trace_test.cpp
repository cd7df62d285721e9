#include "kernels/trace/trace.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace frost;

namespace {
struct ConvCase {  // 2x5x7x3 -> 2x3x4x6, odd on purpose
  ConvGeometry geometry{.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1, .groups = 3};
  Shape x{2, 5, 7, 3}, y = geometry.output(x, 6);
  ConvForward forward(Backend& backend) {
    const auto memory = [&](std::int64_t count) {
      return backend.allocate(static_cast<std::size_t>(count) * sizeof(float));
    };
    return {.geometry = geometry,
            .x = packed_view(static_cast<const void*>(memory(x.elements())), x),
            .weight = {static_cast<float*>(memory(6 * 9)), 7},
            .bias = nullptr,
            .activation = {},
            .y = packed_view(memory(y.elements()), y)};
  }
};
}  // namespace

TEST_CASE("trace: a meta device runs nothing, touches nothing and says what was asked of it") {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  std::vector<PrimitiveCall> seen;
  const std::unique_ptr<Backend> meta = make_meta_backend(*cpu, [&](const PrimitiveCall& call) { seen.push_back(call); });
  void* huge = meta->allocate(std::size_t{1} << 42);  // 4 TB of addresses
  meta->zero(huge, std::size_t{1} << 42);
  float value = 3;
  meta->upload(huge, &value, sizeof value);
  meta->download(&value, huge, sizeof value);
  CHECK(value == 0);  // what is read is zero
  meta->release(huge);

  ConvCase conv;
  const ConvForward args = conv.forward(*meta);
  meta->conv_forward(args);
  meta->conv_forward(args);  // the filters are known now: another kind of call
  meta->conv_forward(args);
  REQUIRE(seen.size() == 6);
  const PrimitiveCall& call = seen[3];
  CHECK(call.primitive == Primitive::conv_forward);
  CHECK(call.forward_flops == 2 * conv.y.elements() * 9);
  CHECK(call.dgrad_flops + call.wgrad_flops == 0);
  CHECK(call.bytes == (conv.x.elements() + conv.y.elements() + 6 * 9) * 4);
  CHECK(seen[3].key != seen[4].key);
  CHECK(seen[4].key == seen[5].key);
}

TEST_CASE("trace: a recorded call can be run on a real device, operands that were one memory stay one") {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  std::vector<PrimitiveCall> seen;
  const std::unique_ptr<Backend> meta = make_meta_backend(*cpu, [&](const PrimitiveCall& call) { seen.push_back(call); });
  const Shape shape{1, 2, 3, 5};
  const View a = packed_view(meta->allocate(120), shape), b = packed_view(meta->allocate(120), shape);
  meta->add({.a = a, .b = b, .y = a});  // a += b
  std::vector<std::vector<float>> memory;
  memory.reserve(8);
  const auto work = seen.at(0).bind(*cpu, [&](std::size_t bytes) -> void* {
    memory.emplace_back(bytes / sizeof(float), static_cast<float>(memory.size() + 1));
    return memory.back().data();
  });
  REQUIRE(memory.size() == 2);
  work();
  CHECK(memory[0] == std::vector<float>(30, 3.0f));  // 1 + 2
  CHECK(memory[1] == std::vector<float>(30, 2.0f));
}

TEST_CASE("trace: a watched device does what the device does, and tells") {
  const std::unique_ptr<Backend> cpu = make_cpu_backend();
  std::int64_t calls = 0;
  double seconds = 0;
  const std::unique_ptr<Backend> watched = make_watched_backend(*cpu, [&](const PrimitiveCall& call) {
    ++calls;
    seconds += call.seconds;
  });
  CHECK(watched->description() == cpu->description());
  std::vector<float> values{1, 2, 3}, back(3);
  void* memory = watched->allocate(64);
  watched->upload(memory, values.data(), 12);
  UpdateState state;
  void* there = watched->allocate(sizeof state);
  watched->upload(there, &state, sizeof state);
  watched->sum_of_squares({.values = static_cast<float*>(memory), .count = 3, .state = static_cast<UpdateState*>(there)});
  watched->download(&state, there, sizeof state);
  CHECK(state.sum_of_squares == 14);
  watched->download(back.data(), memory, 12);
  CHECK(back == values);
  watched->release(memory);
  watched->release(there);
  CHECK(calls == 5);
  CHECK(seconds > 0);
}
