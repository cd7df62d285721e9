#include <algorithm>
#include <chrono>
#include <map>

#include "engine/tensor/tensor.h"
#include "models/slim/explain.h"

namespace frost {

struct CallTimes::State {
  explicit State(std::unique_ptr<Backend> backend) : device(std::move(backend)) {}
  Device device;
  std::map<std::vector<std::int64_t>, double> seconds;
};

CallTimes::CallTimes(std::unique_ptr<Backend> backend) : state_(std::make_unique<State>(std::move(backend))) {}
CallTimes::~CallTimes() = default;
std::size_t CallTimes::measured() const { return state_->seconds.size(); }

double CallTimes::seconds(const PrimitiveCall& call) {
  if (!call.bind) return 0;  // uploads and the like: the batch is there before the step
  const auto [it, unknown] = state_->seconds.try_emplace(call.key, 0.0);
  if (!unknown) return it->second;

  using Clock = std::chrono::steady_clock;
  Backend& backend = state_->device.backend();
  std::vector<Tensor> operands;
  const auto work = call.bind(backend, [&](std::size_t bytes) {
    const auto count = static_cast<std::int64_t>((bytes + sizeof(float) - 1) / sizeof(float));
    operands.push_back(Tensor::zeros(state_->device, {1, 1, 1, count}, DType::f32, Role::workspace));
    return operands.back().data();
  });
  work();  // plans, pages
  backend.synchronize();
  // The middle of several runs: what a step will see, not the best it could. Long calls say enough in one.
  constexpr double kEnough = 0.03;
  constexpr std::size_t kMost = 5;
  std::vector<double> runs;
  for (double spent = 0; runs.size() < kMost && (spent < kEnough || runs.empty()); spent += runs.back()) {
    const auto start = Clock::now();
    work();
    backend.synchronize();
    runs.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::nth_element(runs.begin(), runs.begin() + static_cast<std::ptrdiff_t>(runs.size() / 2), runs.end());
  return it->second = runs[runs.size() / 2];
}

}  // namespace frost
