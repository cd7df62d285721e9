#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tests/golden/golden.h"
#include "tests/kernels/emulated_backend.h"
#include "tests/kernels/guarded.h"

// Softmax and cross entropy of CUDA, emulated on the host, against the CPU's (softmax_test.cpp).

using namespace frost;
using frost::golden::relative_error;
using frost::testing::Guarded;
using frost::testing::HostAccess;
using frost::testing::make_emulated_backend;
using frost::testing::randoms;
using frost::testing::to_whole_vectors;

namespace {
const auto cpu = make_cpu_backend(), cuda_forwards = make_emulated_backend(false, HostAccess::open),
           cuda_backwards = make_emulated_backend(true, HostAccess::open);
}

TEST_CASE("cuda softmax: equals the CPU's") {
  for (const auto& [c, vectors] : {std::pair<std::int64_t, bool>{1, false},
                                   {2, false},
                                   {7, false},
                                   {300, false},
                                   {1000, false},
                                   {3, true},
                                   {31, true},
                                   {2057, true}})  // more than the threads' first vectors
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
      for (const bool log : {false, true}) {
        CAPTURE(c);
        CAPTURE(log);
        CAPTURE(name_of(dtype));
        const Shape s{2, 1, 3, c};
        const auto values = Guarded(s, randoms(s.elements(), 1, 20, 4), dtype).values();  // what every type holds
        const auto gradients = Guarded(s, randoms(s.elements(), 2), dtype).values();
        const std::int64_t rest = to_whole_vectors(c);
        Guarded x(s, values, dtype, 0, vectors ? rest : 3), dy(s, gradients, dtype, vectors ? 8 : 1, vectors ? rest : 0);
        Guarded y(s, dtype, vectors ? 0 : 2, vectors ? rest : 0), dx(s, dtype, 0, vectors ? rest : 1);
        Guarded again(s, dtype);
        cuda_forwards->softmax_forward({x.view(), y.view(), log});
        cuda_forwards->softmax_backward({y.view(), dy.view(), dx.view(), log});
        cuda_backwards->softmax_backward({y.view(), dy.view(), again.view(), log});
        CHECK((y.intact() && dx.intact()));
        CHECK(again.values() == dx.values());
        Guarded wide(s, values), dwide(s, gradients), want(s), kept(s, y.values()), dwant(s);
        cpu->softmax_forward({wide.view(), want.view(), log});
        cpu->softmax_backward({kept.view(), dwide.view(), dwant.view(), log});
        const double rounding = dtype == DType::f32 ? 1e-6 : dtype == DType::bf16 ? 1.0 / 256 : 1.0 / 2048;
        CHECK(relative_error(y.values(), want.values()) < rounding);
        CHECK(relative_error(dx.values(), dwant.values()) < rounding);
      }
}

TEST_CASE("cuda cross_entropy: equals the CPU's; a label that is no class gives NaN") {
  for (const auto& [rows, classes] : {std::pair<std::int64_t, std::int64_t>{1, 2}, {37, 1000}, {300, 7}})
    for (const float smoothing : {0.0f, 0.1f}) {
      CAPTURE(rows);
      CAPTURE(smoothing);
      const auto logits = randoms(rows * classes, 1, 50, 30);
      std::vector<std::int64_t> labels;
      for (std::int64_t i = 0; i < rows; ++i) labels.push_back(i * 29 % classes);
      std::vector<float> grad(logits.size() + 1, 7.0f), want_grad(logits.size());
      float loss = 0, want = 0;
      CrossEntropy a{logits.data(), labels.data(), rows, classes, smoothing, &loss, grad.data()};
      cuda_forwards->cross_entropy(a);
      cpu->cross_entropy({logits.data(), labels.data(), rows, classes, smoothing, &want, want_grad.data()});
      CHECK(loss == doctest::Approx(want).epsilon(1e-6));
      CHECK(grad.back() == 7.0f);
      grad.pop_back();
      CHECK(relative_error(grad, want_grad) < 1e-6);
      a.dlogits = nullptr;
      const float before = loss;
      cuda_backwards->cross_entropy(a);
      CHECK(loss == before);
      labels[0] = classes;
      cuda_forwards->cross_entropy(a);
      CHECK(std::isnan(loss));
    }
}
