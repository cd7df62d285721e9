#include "kernels/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>

#include "kernels/backend.h"
#include "tests/golden/golden.h"
#include "tests/kernels/guarded.h"

using namespace frost;
using frost::golden::relative_error;
using frost::testing::randoms;

namespace {

const auto backend = make_cpu_backend();
constexpr std::int64_t kCount = 40'003;  // several threads, and a tail

std::vector<double> widen(const std::vector<float>& v) { return {v.begin(), v.end()}; }
std::vector<float> some_mask() {
  auto mask = randoms(kCount, 9);
  for (auto& m : mask) m = m > 0.5f ? 0.0f : 1.0f;
  return mask;
}

}  // namespace

TEST_CASE("sgd_step: five steps against the rule in double; mask, ema, plain and Nesterov momentum") {
  for (const bool nesterov : {true, false})
    for (const bool masked : {true, false})
      for (const bool averaged : {true, false}) {
        CAPTURE(nesterov);
        CAPTURE(masked);
        auto value = randoms(kCount + 1, 1), ema = randoms(kCount + 1, 2);
        std::vector<float> buffer(kCount + 1, std::nanf(""));  // the first step must not read it
        const auto mask = some_mask();
        const float guard = value.back(), ema_guard = ema.back();
        auto v = widen(value), b = std::vector<double>(v.size()), average = widen(ema);
        const float lr = 0.01f, mu = 0.937f, decay = 5e-4f, scale = 0.25f, ema_decay = 0.9f;
        for (int step = 0; step < 5; ++step) {
          const auto grad = randoms(kCount, 10 + static_cast<unsigned>(step));
          backend->sgd_step({.value = value.data(),
                             .momentum_buffer = buffer.data(),
                             .grad = grad.data(),
                             .mask = masked ? mask.data() : nullptr,
                             .ema = averaged ? ema.data() : nullptr,
                             .count = kCount,
                             .lr = lr,
                             .momentum = mu,
                             .weight_decay = decay,
                             .grad_scale = scale,
                             .ema_decay = ema_decay,
                             .nesterov = nesterov,
                             .first_step = step == 0});
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
  for (const bool decoupled : {true, false})
    for (const bool masked : {true, false}) {
      CAPTURE(decoupled);
      auto value = randoms(kCount + 1, 1), ema = value;
      std::vector<float> m(kCount + 1), s(kCount + 1);
      const auto mask = some_mask();
      const float guard = value.back();
      auto v = widen(value), average = v, vm = std::vector<double>(v.size()), vs = vm;
      const float lr = 1e-3f, beta1 = 0.937f, beta2 = 0.999f, decay = 5e-2f, scale = 0.5f, ema_decay = 0.9f;
      for (int step = 1; step <= 6; ++step) {
        const auto grad = randoms(kCount, 10 + static_cast<unsigned>(step));
        backend->adam_step({.value = value.data(),
                            .exp_avg = m.data(),
                            .exp_avg_sq = s.data(),
                            .grad = grad.data(),
                            .mask = masked ? mask.data() : nullptr,
                            .ema = ema.data(),
                            .count = kCount,
                            .step = step,
                            .lr = lr,
                            .beta1 = beta1,
                            .beta2 = beta2,
                            .weight_decay = decay,
                            .grad_scale = scale,
                            .ema_decay = ema_decay,
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

TEST_CASE("ema_update and sum_of_squares") {
  auto ema = randoms(kCount + 1, 1);
  const auto value = randoms(kCount, 2);
  const float guard = ema.back();
  auto want = widen(ema);
  for (std::size_t i = 0; i < value.size(); ++i) want[i] = double(0.999f) * want[i] + (1 - double(0.999f)) * value[i];
  backend->ema_update({ema.data(), value.data(), kCount, 0.999f});
  CHECK(ema.back() == guard);
  CHECK(relative_error(ema, want) < 2e-7);

  double sum = 0;
  for (const float v : value) sum += double(v) * v;
  CHECK(backend->sum_of_squares(value.data(), kCount) == doctest::Approx(sum).epsilon(1e-12));
  CHECK(backend->sum_of_squares(value.data(), kCount) == backend->sum_of_squares(value.data(), kCount));  // same bits
  CHECK(backend->sum_of_squares(value.data(), 0) == 0);
  const std::vector<float> large(1000, 1e30f);  // squares overflow f32, not the sum
  CHECK(backend->sum_of_squares(large.data(), 1000) == doctest::Approx(1e63).epsilon(1e-6));
  auto broken = value;
  broken[123] = std::nanf("");
  CHECK(std::isnan(backend->sum_of_squares(broken.data(), kCount)));
}
