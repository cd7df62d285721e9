#include <algorithm>
#include <chrono>

#include "engine/tensor/tensor.h"
#include "models/slim/explain.h"

namespace frost::slim {

double CallTimes::seconds(const PrimitiveCall& call) {
  if (!call.bind) return 0;  // uploads and the like: the batch is on the device before the step
  const auto [it, unknown] = seconds_.try_emplace(call.key, 0.0);
  if (!unknown) return it->second;

  using Clock = std::chrono::steady_clock;
  Backend& backend = device_.backend();
  // In a step the operands are not in the nearest cache, because other work ran before. So each run has operands of its
  // own; large ones evict each other anyway.
  constexpr std::int64_t kLarge = 64 << 20;
  constexpr int kRuns = 4;
  const int sets = call.bytes >= kLarge ? 1 : kRuns;
  std::vector<Tensor> operands;
  const auto memory = [&](std::size_t bytes) {
    const auto count = static_cast<std::int64_t>((bytes + sizeof(float) - 1) / sizeof(float));
    operands.push_back(Tensor::zeros(device_, {1, 1, 1, count}, DType::f32, Role::workspace));
    return operands.back().data();
  };
  std::vector<std::function<void()>> works;
  for (int set = 0; set < sets; ++set) works.push_back(call.bind(backend, memory));
  for (const auto& work : works) work();  // plans, pages
  backend.synchronize();
  // The best of a few runs: other work on the machine only adds time. Measured steps are taken the same way.
  double best = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    const auto start = Clock::now();
    works[static_cast<std::size_t>(run % sets)]();
    backend.synchronize();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return it->second = best;
}

}  // namespace frost::slim
