#pragma once
#include <algorithm>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vector.h"
#include "kernels/math/sgd.h"
#include "kernels/optimizer.h"

/// The optimizer's primitives over a launcher (run.h). The step's numbers are read in device memory: nothing waits.
namespace frost::cuda {

/// The wider of 4 and 1 floats that fit everything: arenas are cut at multiples of 16 floats, so they take the first.
inline int flat_width(std::int64_t count, std::initializer_list<const float*> arrays) {
  for (const float* array : arrays)
    if (reinterpret_cast<std::uintptr_t>(array) % kVectorBytes != 0) return 1;
  return count % 4 == 0 ? 4 : 1;
}

/// Sums of squares of `values`, one for each block, in double: a block's share and the order inside it depend on the count
/// alone. Floor: reads values once.
template <int width>
struct PartialSquares : BlockTotal {
  const float* values;
  std::int64_t items, blocks;  // of `width` values each
  double* sums;                // (blocks)

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own&) const {
    total<phase>(
        thread, shared,
        [&](double& sum) {
          for (std::int64_t i = block * kThreads + thread; i < items; i += blocks * kThreads) {
            const Lanes<width> v = load<width>(values + i * width);
            FROST_UNROLL
            for (int j = 0; j < width; ++j) sum += static_cast<double>(v[j]) * v[j];
          }
        },
        [&](double sum) { sums[block] = sum; });
  }
};

struct AddSquares {
  UpdateState* state;
  FROST_HD void operator()(double sum) const { state->sum_of_squares += sum; }
};

inline constexpr std::int64_t kMostSums = 1024;  // blocks of PartialSquares, whatever the device: the bits are the same

template <class Launcher>
void sum_of_squares(const Launcher& launch, const SumOfSquares& a) {
  if (a.count <= 0) return;
  auto* sums = static_cast<double*>(launch.scratch(kMostSums * sizeof(double)));
  const int width = flat_width(a.count, {a.values});
  const std::int64_t items = a.count / width, blocks = grid_size(items, kMostSums);
  if (width == 4)
    launch.blocks(blocks, PartialSquares<4>{{}, a.values, items, blocks, sums});
  else
    launch.blocks(blocks, PartialSquares<1>{{}, a.values, items, blocks, sums});
  add_up(launch, sums, blocks, AddSquares{a.state});
}

/// One item. Floor: reads and writes the state once.
struct Prepare {
  PrepareStep a;
  FROST_HD void operator()(std::int64_t) const { a.run(); }
};

/// The mask where there is one, else ones.
template <int width>
FROST_HD Lanes<width> load_mask(const float* mask, std::int64_t at) {
  if (mask) return load<width>(mask + at);
  Lanes<width> ones;
  FROST_UNROLL
  for (int j = 0; j < width; ++j) ones[j] = 1;
  return ones;
}

template <int width>
FROST_HD void average(float* ema, std::int64_t at, const Lanes<width>& value, float decay) {
  if (!ema) return;
  Lanes<width> e = load<width>(ema + at);
  FROST_UNROLL
  for (int j = 0; j < width; ++j) e[j] = math::ema_update(e[j], value[j], decay);
  store(ema + at, e);
}

/// Item i: `width` parameters. Floor: reads value, buffer, grad, ema (and mask) once, writes value, buffer, ema once: 28
/// bytes a parameter.
template <int width>
struct Sgd {
  SgdStep a;

  FROST_HD void operator()(std::int64_t i) const {
    const UpdateState& state = *a.state;
    if (state.skip) return;
    const auto rule = math::sgd_rule(a.settings->lr[a.group], a.settings->momentum, a.weight_decay, state.grad_scale,
                                     a.nesterov, state.steps == 1);
    const std::int64_t at = i * width;
    Lanes<width> value = load<width>(a.value + at), buffer = load<width>(a.momentum_buffer + at);
    const Lanes<width> grad = load<width>(a.grad + at), mask = load_mask<width>(a.mask, at);
    FROST_UNROLL
    for (int j = 0; j < width; ++j) {
      math::sgd_update(value[j], buffer[j], grad[j], rule);
      value[j] *= mask[j], buffer[j] *= mask[j];
    }
    store(a.value + at, value);
    store(a.momentum_buffer + at, buffer);
    average(a.ema, at, value, state.ema_decay);
  }
};

/// Floor: as Sgd, with a second moment: 36 bytes a parameter.
template <int width>
struct Adam {
  AdamStep a;

  FROST_HD void operator()(std::int64_t i) const {
    const UpdateState& state = *a.state;
    if (state.skip) return;
    const auto rule = math::adam_rule(a.settings->lr[a.group], state.step_size[a.group], state.root_scale[a.group],
                                      a.settings->momentum, a.beta2, a.eps, a.weight_decay, state.grad_scale, a.decoupled);
    const std::int64_t at = i * width;
    Lanes<width> value = load<width>(a.value + at), first = load<width>(a.exp_avg + at),
                 second = load<width>(a.exp_avg_sq + at);
    const Lanes<width> grad = load<width>(a.grad + at), mask = load_mask<width>(a.mask, at);
    FROST_UNROLL
    for (int j = 0; j < width; ++j) {
      math::adam_update(value[j], first[j], second[j], grad[j], rule);
      value[j] *= mask[j], first[j] *= mask[j], second[j] *= mask[j];
    }
    store(a.value + at, value);
    store(a.exp_avg + at, first);
    store(a.exp_avg_sq + at, second);
    average(a.ema, at, value, state.ema_decay);
  }
};

/// Item i: value i % largest of tensor i / largest. Short tensors leave threads idle; all of them together are some ten
/// thousand values. Floor: reads ema and value once, writes ema once.
struct EmaList {
  EmaUpdate a;

  FROST_HD void operator()(std::int64_t i) const {
    if (a.state->skip) return;
    const auto [tensor, at] = split(i, a.largest);
    const EmaItem& item = a.items[tensor];
    if (at < item.count) item.ema[at] = math::ema_update(item.ema[at], item.value[at], a.state->ema_decay);
  }
};

template <class Launcher>
void sgd_step(const Launcher& launch, const SgdStep& a) {
  if (flat_width(a.count, {a.value, a.momentum_buffer, a.grad, a.mask, a.ema}) == 4)
    launch.items(a.count / 4, Sgd<4>{a});
  else
    launch.items(a.count, Sgd<1>{a});
}

template <class Launcher>
void adam_step(const Launcher& launch, const AdamStep& a) {
  if (flat_width(a.count, {a.value, a.exp_avg, a.exp_avg_sq, a.grad, a.mask, a.ema}) == 4)
    launch.items(a.count / 4, Adam<4>{a});
  else
    launch.items(a.count, Adam<1>{a});
}

}  // namespace frost::cuda
