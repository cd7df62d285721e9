#include "kernels/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <iterator>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cuda/kernels/optimizer.cuh"
#include "tests/golden/golden.h"
#include "tests/kernels/device.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/host_launch.h"

using namespace frost;
using frost::golden::relative_error;
using frost::testing::randoms;

namespace {

/// The primitives as the tested device has them, and as CUDA's kernels compute them when the host walks their threads.
struct Primitives {
  const char* where;
  std::function<void(const SumOfSquares&)> sum_of_squares;
  std::function<void(const PrepareStep&)> prepare_step;
  std::function<void(const SgdStep&)> sgd_step;
  std::function<void(const AdamStep&)> adam_step;
  std::function<void(const EmaUpdate&)> ema_update;
};
std::vector<Primitives> all_primitives() {
  static const auto device = frost::testing::make_test_backend();
  std::vector<Primitives> all{{"backend", [](auto& a) { device->sum_of_squares(a); },
                               [](auto& a) { device->prepare_step(a); }, [](auto& a) { device->sgd_step(a); },
                               [](auto& a) { device->adam_step(a); }, [](auto& a) { device->ema_update(a); }}};
  for (const bool backwards : {false, true}) {
    const cuda::HostLaunch launch(backwards);
    all.push_back({backwards ? "CUDA's kernels on the host, backwards" : "CUDA's kernels on the host",
                   [=](auto& a) { cuda::sum_of_squares(launch, a); }, [=](auto& a) { launch.items(1, cuda::Prepare{a}); },
                   [=](auto& a) { cuda::sgd_step(launch, a); }, [=](auto& a) { cuda::adam_step(launch, a); },
                   [=](auto& a) { cuda::ema_update(launch, a); }});
  }
  return all;
}
constexpr std::int64_t kCount = 40'003;  // several threads, and a tail
constexpr std::int64_t kEven = 20'000;   // CUDA: four values to a thread

std::vector<double> widen(const std::vector<float>& v) { return {v.begin(), v.end()}; }
std::vector<float> some_mask(std::int64_t count) {
  auto mask = randoms(count, 9);
  for (auto& m : mask) m = m > 0.5f ? 0.0f : 1.0f;
  return mask;
}

}  // namespace

TEST_CASE("sgd_step: five steps against the rule in double; mask, ema, plain and Nesterov momentum") {
  for (const Primitives& on : all_primitives())
    for (const bool nesterov : {true, false})
      for (const bool masked : {true, false})
        for (const bool averaged : {true, false}) {
          CAPTURE(on.where);
          CAPTURE(nesterov);
          CAPTURE(masked);
          const std::int64_t count = averaged ? kCount : kEven;
          auto value = randoms(count + 1, 1), ema = randoms(count + 1, 2);
          std::vector<float> buffer(static_cast<std::size_t>(count) + 1, std::nanf(""));  // the first step must not read it
          const auto mask = some_mask(count);
          const float guard = value.back(), ema_guard = ema.back();
          auto v = widen(value), b = std::vector<double>(v.size()), average = widen(ema);
          const float lr = 0.01f, mu = 0.937f, decay = 5e-4f, scale = 0.25f, ema_decay = 0.9f;
          const StepSettings settings{.lr = {7, lr, 7}, .momentum = mu};
          for (int step = 0; step < 5; ++step) {
            const auto grad = randoms(count, 10 + static_cast<unsigned>(step));
            const UpdateState state{.steps = step + 1, .grad_scale = scale, .ema_decay = ema_decay};
            on.sgd_step({.value = value.data(),
                         .momentum_buffer = buffer.data(),
                         .grad = grad.data(),
                         .mask = masked ? mask.data() : nullptr,
                         .ema = averaged ? ema.data() : nullptr,
                         .count = count,
                         .state = &state,
                         .settings = &settings,
                         .group = 1,
                         .weight_decay = decay,
                         .nesterov = nesterov});
            for (std::size_t i = 0; i < grad.size(); ++i) {
              const double g = double(scale) * grad[i] + double(decay) * v[i];
              b[i] = step == 0 ? g : double(mu) * b[i] + g;
              v[i] -= double(lr) * (nesterov ? g + double(mu) * b[i] : b[i]);
              if (masked) v[i] *= mask[i], b[i] *= mask[i];
              if (averaged) average[i] = double(ema_decay) * average[i] + (1 - double(ema_decay)) * v[i];
            }
          }
          CHECK(value.back() == guard);
          CHECK(ema.back() == ema_guard);
          CHECK(std::isnan(buffer.back()));
          buffer.back() = 0;
          CHECK(relative_error(value, v) < 5e-7);
          CHECK(relative_error(buffer, b) < 5e-7);
          CHECK(relative_error(ema, average) < 5e-7);
          for (std::size_t i = 0; masked && i < mask.size(); ++i)
            if (mask[i] == 0) REQUIRE((value[i] == 0 && buffer[i] == 0));
        }
}

TEST_CASE("adam_step: Adam and AdamW, six steps against the rule in double") {
  for (const Primitives& on : all_primitives())
    for (const bool decoupled : {true, false})
      for (const bool masked : {true, false}) {
        CAPTURE(on.where);
        const std::int64_t count = decoupled ? kCount : kEven;
        CAPTURE(decoupled);
        auto value = randoms(count + 1, 1), ema = value;
        std::vector<float> m(value.size()), s(value.size());
        const auto mask = some_mask(count);
        const float guard = value.back();
        auto v = widen(value), average = v, vm = std::vector<double>(v.size()), vs = vm;
        const float lr = 1e-3f, beta1 = 0.937f, beta2 = 0.999f, decay = 5e-2f, scale = 0.5f, ema_decay = 0.9f;
        const StepSettings settings{.lr = {7, 7, lr}, .momentum = beta1};
        for (int step = 1; step <= 6; ++step) {
          const auto grad = randoms(count, 10 + static_cast<unsigned>(step));
          UpdateState state{.steps = step, .grad_scale = scale, .ema_decay = ema_decay};
          state.step_size[2] = static_cast<float>(double(lr) / (1 - std::pow(double(beta1), step)));
          state.root_scale[2] = static_cast<float>(1 / std::sqrt(1 - std::pow(double(beta2), step)));
          on.adam_step({.value = value.data(),
                        .exp_avg = m.data(),
                        .exp_avg_sq = s.data(),
                        .grad = grad.data(),
                        .mask = masked ? mask.data() : nullptr,
                        .ema = ema.data(),
                        .count = count,
                        .state = &state,
                        .settings = &settings,
                        .group = 2,
                        .beta2 = beta2,
                        .weight_decay = decay,
                        .decoupled = decoupled});
          for (std::size_t i = 0; i < grad.size(); ++i) {
            double g = double(scale) * grad[i];
            if (decoupled)
              v[i] *= 1 - double(lr) * double(decay);
            else
              g += double(decay) * v[i];
            vm[i] = double(beta1) * vm[i] + (1 - double(beta1)) * g;
            vs[i] = double(beta2) * vs[i] + (1 - double(beta2)) * g * g;
            v[i] -= double(lr) * (vm[i] / (1 - std::pow(double(beta1), step))) /
                    (std::sqrt(vs[i] / (1 - std::pow(double(beta2), step))) + 1e-8);
            if (masked) v[i] *= mask[i], vm[i] *= mask[i], vs[i] *= mask[i];
            average[i] = double(ema_decay) * average[i] + (1 - double(ema_decay)) * v[i];
          }
        }
        CHECK(value.back() == guard);
        CHECK(m.back() == 0);
        CHECK(relative_error(value, v) < 5e-7);
        CHECK(relative_error(m, vm) < 1e-6);
        CHECK(relative_error(s, vs) < 1e-6);
        CHECK(relative_error(ema, average) < 5e-7);
      }
}

TEST_CASE("ema_update: a list of tensors of many sizes in one call") {
  for (const Primitives& on : all_primitives()) {
    CAPTURE(on.where);
    std::vector<std::vector<float>> ema, value;
    std::vector<std::vector<double>> want;
    std::vector<EmaItem> items;
    for (const std::int64_t count : {std::int64_t{1}, std::int64_t{16}, std::int64_t{255}, kCount, std::int64_t{31}}) {
      const auto seed = static_cast<unsigned>(count);
      ema.push_back(randoms(count + 1, seed));
      value.push_back(randoms(count, seed + 1));
      want.push_back(widen(ema.back()));
      for (std::size_t i = 0; i < value.back().size(); ++i)
        want.back()[i] = double(0.999f) * want.back()[i] + (1 - double(0.999f)) * value.back()[i];
    }
    for (std::size_t k = 0; k < ema.size(); ++k) items.push_back({ema[k].data(), value[k].data(), std::ssize(value[k])});
    std::vector<float> odd_ema = randoms(18, 3), odd_value = randoms(17, 4);  // at addresses that allow no vectors
    std::vector<double> odd_want = widen(odd_ema);
    for (std::size_t i = 1; i < 17; ++i) odd_want[i] = double(0.999f) * odd_want[i] + (1 - double(0.999f)) * odd_value[i];
    items.push_back({odd_ema.data() + 1, odd_value.data() + 1, 16});
    UpdateState state{.ema_decay = 0.999f, .skip = 1};
    const EmaUpdate update{
        .items = items.data(), .item_count = std::ssize(items), .largest = kCount, .values = 0, .state = &state};
    const auto before = ema;
    on.ema_update(update);
    CHECK(ema == before);  // a skipped step averages nothing
    state.skip = 0;
    on.ema_update(update);
    for (std::size_t k = 0; k < ema.size(); ++k) {
      CHECK(ema[k].back() == before[k].back());  // nothing past the end
      CHECK(relative_error(ema[k], want[k]) < 2e-7);
    }
    CHECK(relative_error(odd_ema, odd_want) < 2e-7);
  }
}

TEST_CASE("sum_of_squares is added to the state, in double") {
  for (const Primitives& on : all_primitives()) {
    CAPTURE(on.where);
    const auto value = randoms(kCount, 2);
    const auto sum_of = [&](const std::vector<float>& values) {
      UpdateState state;
      on.sum_of_squares({values.data(), std::ssize(values), &state});
      return state.sum_of_squares;
    };
    double sum = 0;
    for (const float v : value) sum += double(v) * v;
    CHECK(sum_of(value) == doctest::Approx(sum).epsilon(1e-12));
    CHECK(sum_of(value) == sum_of(value));  // same bits
    CHECK(sum_of({}) == 0);
    const std::vector<float> large(1000, 1e30f);  // squares overflow f32, not the sum
    CHECK(sum_of(large) == doctest::Approx(1e63).epsilon(1e-6));
    auto broken = value;
    broken[123] = std::nanf("");
    CHECK(std::isnan(sum_of(broken)));
    UpdateState both;
    on.sum_of_squares({value.data(), 1000, &both});
    on.sum_of_squares({value.data() + 1000, kCount - 1000, &both});
    CHECK(both.sum_of_squares == doctest::Approx(sum).epsilon(1e-12));
  }
}

TEST_CASE("prepare_step: a group that was born later counts its own steps") {
  for (const Primitives& on : all_primitives()) {
    CAPTURE(on.where);
    const StepSettings settings{.lr = {1, 1, 1, 1}, .born = {0, 0, 0, 100}, .groups = 4, .momentum = 0.9f};
    UpdateState state{.steps = 102};
    on.prepare_step({.state = &state, .settings = &settings});
    CHECK(state.steps == 103);
    for (const auto& [group, own] : {std::pair{0, 103}, {2, 103}, {3, 3}}) {
      CHECK(state.step_size[group] == doctest::Approx(1 / (1 - std::pow(double(0.9f), own))).epsilon(1e-6));
      CHECK(state.root_scale[group] == doctest::Approx(1 / std::sqrt(1 - std::pow(double(0.999f), own))).epsilon(1e-4));
    }
  }
}

TEST_CASE("prepare_step: norm, clip, loss scale, counters; a step that is not finite is skipped") {
  for (const Primitives& on : all_primitives()) {
    CAPTURE(on.where);
    const StepSettings settings{.lr = {1, 2, 3}, .momentum = 0.9f};
    UpdateState state{.sum_of_squares = 9 * 1024.0 * 1024.0};
    state.loss_scale.scale = 1024;
    const PrepareStep prepare{.state = &state, .settings = &settings, .clip = 1.5, .beta2 = 0.999f, .dynamic = true};
    on.prepare_step(prepare);
    CHECK(state.norm == 3);
    CHECK(state.sum_of_squares == 0);
    CHECK(state.grad_scale == doctest::Approx(1.5 / (3 + 1e-6) / 1024).epsilon(1e-7));
    CHECK(state.skip == 0);
    CHECK((state.steps == 1 && state.ema_updates == 1 && state.skipped == 0));
    CHECK(state.ema_decay == doctest::Approx(0.9999 * (1 - std::exp(-1.0 / 2000))).epsilon(1e-6));
    for (const int group : {0, 1, 2}) CHECK(state.step_size[group] == doctest::Approx((group + 1) / 0.1).epsilon(1e-6));
    for (const int group : {0, 1, 2}) CHECK(state.root_scale[group] == doctest::Approx(1 / std::sqrt(0.001)).epsilon(1e-4));
    CHECK((state.loss_scale.scale == 1024 && state.loss_scale.good_steps == 1));

    state.sum_of_squares = std::numeric_limits<double>::infinity();
    const float decay = state.ema_decay;
    on.prepare_step(prepare);
    CHECK((state.skip == 1 && state.skipped == 1 && state.steps == 1 && state.ema_updates == 1));
    CHECK((state.loss_scale.scale == 512 && state.loss_scale.good_steps == 0));
    CHECK(state.ema_decay == decay);
    CHECK(state.sum_of_squares == 0);
    float value = 1, other = 2;
    on.sgd_step(
        {.value = &value, .momentum_buffer = &other, .grad = &other, .count = 1, .state = &state, .settings = &settings});
    on.adam_step({.value = &value,
                  .exp_avg = &other,
                  .exp_avg_sq = &other,
                  .grad = &other,
                  .count = 1,
                  .state = &state,
                  .settings = &settings});
    CHECK((value == 1 && other == 2));

    state.sum_of_squares = 9 * 512.0 * 512.0;  // the same gradients under the new scale; not clipped
    on.prepare_step({.state = &state, .settings = &settings, .clip = 0, .dynamic = false});
    CHECK((state.skip == 0 && state.norm == 3 && state.steps == 2));
    CHECK(state.grad_scale == 1.0f / 512);
    CHECK((state.loss_scale.scale == 512 && state.loss_scale.good_steps == 0));  // not dynamic: stays
  }
}

TEST_CASE("the loss scale follows PyTorch's GradScaler: halved by each overflow, doubled after 2000 good steps in a row") {
  math::LossScale now{math::kFirstLossScale, 0};
  CHECK(now.scale == 65536);
  const auto good = [&](int steps) {
    for (int i = 0; i < steps; ++i) now = math::next_loss_scale(now, true);
    return now.scale;
  };
  CHECK(good(1999) == 65536);
  CHECK(good(1) == 131072);
  CHECK(now.good_steps == 0);
  CHECK(good(1999) == 131072);
  now = math::next_loss_scale(now, false);  // one step before growing: the count starts again
  CHECK((now.scale == 65536 && now.good_steps == 0));
  CHECK(good(1999) == 65536);
  CHECK(good(1) == 131072);
  for (int i = 0; i < 10; ++i) now = math::next_loss_scale(now, false);
  CHECK(now.scale == 128);
  now = {std::ldexp(1.0f, 127), 1999};  // the next doubling would be infinite
  CHECK(good(1) == std::ldexp(1.0f, 127));
}
