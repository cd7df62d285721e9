#include "kernels/optimizer.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/rows.h"
#include "kernels/math/sgd.h"

namespace frost::cpu {
namespace {

constexpr std::int64_t kGrain = 16384;  // values for a thread at least

template <class T>
FROST_HD T* from(T* values, std::int64_t first) {
  return values ? values + first : nullptr;
}

/// each(has mask, has ema): the loops are built apart for each answer.
template <class Each>
void with_mask_and_ema(bool mask, bool ema, const Each& each) {
  using std::bool_constant;
  if (mask)
    ema ? each(bool_constant<true>{}, bool_constant<true>{}) : each(bool_constant<true>{}, bool_constant<false>{});
  else
    ema ? each(bool_constant<false>{}, bool_constant<true>{}) : each(bool_constant<false>{}, bool_constant<false>{});
}

}  // namespace

void CpuBackend::sum_of_squares(const SumOfSquares& a) {
  a.state->sum_of_squares +=
      column_sums(a.count, kGrain, 1, [values = a.values](std::int64_t first, std::int64_t last, double* sum) FROST_LOOP {
        *sum += sum_of_lanes(last - first,
                             [v = values + first](std::int64_t j) FROST_LOOP { return static_cast<double>(v[j]) * v[j]; });
      })[0];
}

void CpuBackend::prepare_step(const PrepareStep& a) { a.run(); }

void CpuBackend::sgd_step(const SgdStep& a) {
  const UpdateState& state = *a.state;
  if (state.skip) return;
  const auto rule = math::sgd_rule(a.settings->lr[a.group], a.settings->momentum, a.weight_decay, state.grad_scale,
                                   a.nesterov, state.steps == 1);
  with_mask_and_ema(a.mask, a.ema, [&](auto masked, auto averaged) {
    simd_ranges(a.count, kGrain, [=](std::int64_t first, std::int64_t last) FROST_LOOP {
      for_lanes(last - first,
                [=, value = a.value + first, buffer = a.momentum_buffer + first, grad = a.grad + first,
                 mask = from(a.mask, first), ema = from(a.ema, first), decay = state.ema_decay](std::int64_t j) FROST_LOOP {
                  float v = value[j], b = buffer[j];
                  math::sgd_update(v, b, grad[j], rule);
                  if constexpr (masked()) v *= mask[j], b *= mask[j];
                  value[j] = v, buffer[j] = b;
                  if constexpr (averaged()) ema[j] = math::ema_update(ema[j], v, decay);
                });
    });
  });
}

void CpuBackend::adam_step(const AdamStep& a) {
  const UpdateState& state = *a.state;
  if (state.skip) return;
  const auto rule = math::adam_rule(a.settings->lr[a.group], state.step_size[a.group], state.root_scale[a.group],
                                    a.settings->momentum, a.beta2, a.eps, a.weight_decay, state.grad_scale, a.decoupled);
  with_mask_and_ema(a.mask, a.ema, [&](auto masked, auto averaged) {
    simd_ranges(a.count, kGrain, [=](std::int64_t first, std::int64_t last) FROST_LOOP {
      for_lanes(last - first, [=, value = a.value + first, average = a.exp_avg + first, square = a.exp_avg_sq + first,
                               grad = a.grad + first, mask = from(a.mask, first), ema = from(a.ema, first),
                               decay = state.ema_decay](std::int64_t j) FROST_LOOP {
        float v = value[j], m = average[j], s = square[j];
        math::adam_update(v, m, s, grad[j], rule);
        if constexpr (masked()) v *= mask[j], m *= mask[j], s *= mask[j];
        value[j] = v, average[j] = m, square[j] = s;
        if constexpr (averaged()) ema[j] = math::ema_update(ema[j], v, decay);
      });
    });
  });
}

void CpuBackend::ema_update(const EmaUpdate& a) {
  if (a.state->skip) return;
  for (std::int64_t k = 0; k < a.item_count; ++k)
    simd_ranges(a.items[k].count, kGrain,
                [item = a.items[k], decay = a.state->ema_decay](std::int64_t first, std::int64_t last) FROST_LOOP {
                  for_lanes(last - first, [=, ema = item.ema + first, value = item.value + first](std::int64_t j)
                                              FROST_LOOP { ema[j] = math::ema_update(ema[j], value[j], decay); });
                });
}

}  // namespace frost::cpu
