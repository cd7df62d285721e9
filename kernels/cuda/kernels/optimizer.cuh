#pragma once
#include <algorithm>

#include "kernels/cuda/kernels/block_sum.cuh"
#include "kernels/cuda/kernels/launch.cuh"
#include "kernels/cuda/kernels/vector_access.cuh"
#include "kernels/math/sgd.h"
#include "kernels/optimizer.h"

/// The optimizer's primitives over a launcher (kernel_launch.cuh). The step's numbers are read in device memory: nothing
/// waits.
namespace frost::cuda {

/// use(4 or 1, as a constant) for arrays of `count` values; each may be null. Arenas are cut at multiples of 16 values, so
/// they take the 4.
template <class Use, class... Array>
void with_flat_width(std::int64_t count, const Use& use, Array*... arrays) {
  with_width<float>({packed_view(arrays, {1, 1, 1, count})...}, Tails::none, use);
}

/// Sums of squares of `values`, one for each block, in double: a block's share and the order inside it depend on the count
/// alone. Lower bound: reads values once.
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
  std::int64_t blocks = 0;
  with_flat_width(
      a.count,
      [&](auto width) {
        const std::int64_t items = a.count / width;
        blocks = grid_size(items, kMostSums);
        launch.blocks(blocks, PartialSquares<width>{{}, a.values, items, blocks, sums});
      },
      a.values);
  add_up(launch, sums, blocks, AddSquares{a.state});
}

/// One item. Lower bound: reads and writes the state once: some ten numbers.
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

/// Item i: `width` parameters. Lower bound: reads value, buffer, grad, ema (and mask) once, writes value, buffer, ema once:
/// 28 bytes a parameter.
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

/// Lower bound: as Sgd, with a second moment: 36 bytes a parameter.
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

/// Item i: 4 values of one tensor, at once where both its arrays are aligned. Short tensors leave threads idle; all of them
/// together are some ten thousand values. Lower bound: reads ema and value once, writes ema once.
struct EmaList {
  EmaUpdate a;
  Divider each;  // items to a tensor

  static constexpr int kWidth = 4;
  static std::int64_t items(const EmaUpdate& a) { return (a.largest + kWidth - 1) / kWidth; }

  FROST_HD void operator()(std::int64_t i) const {
    if (a.state->skip) return;
    const auto [tensor, item] = divide(i, each);
    const EmaItem& list = a.items[tensor];
    const std::int64_t first = item * kWidth, last = first + kWidth < list.count ? first + kWidth : list.count;
    if (last - first == kWidth && aligned(list.ema) && aligned(list.value))
      return average(list.ema, first, load<kWidth>(list.value + first), a.state->ema_decay);
    for (std::int64_t at = first; at < last; ++at)
      list.ema[at] = math::ema_update(list.ema[at], list.value[at], a.state->ema_decay);
  }
};

template <class Launcher>
void sgd_step(const Launcher& launch, const SgdStep& a) {
  with_flat_width(
      a.count, [&](auto width) { launch.items(a.count / width, Sgd<width>{a}); }, a.value, a.momentum_buffer, a.grad, a.mask,
      a.ema);
}

template <class Launcher>
void adam_step(const Launcher& launch, const AdamStep& a) {
  with_flat_width(
      a.count, [&](auto width) { launch.items(a.count / width, Adam<width>{a}); }, a.value, a.exp_avg, a.exp_avg_sq, a.grad,
      a.mask, a.ema);
}

template <class Launcher>
void ema_update(const Launcher& launch, const EmaUpdate& a) {
  if (a.largest > 0) launch.items(a.item_count * EmaList::items(a), EmaList{a, Divider(EmaList::items(a))});
}

}  // namespace frost::cuda
