#include <doctest/doctest.h>

#include <cmath>

#include "kernels/backend.h"
#include "kernels/elementwise.h"
#include "tests/golden/golden.h"
#include "tests/kernels/device.h"
#include "tests/kernels/guarded.h"

using namespace frost;
using frost::golden::relative_error;
using frost::testing::Guarded;
using frost::testing::randoms;

namespace {
const auto backend = frost::testing::make_test_backend();
}

TEST_CASE("softmax: golden, rows and log rows") {
  const auto file = golden::load("ops_softmax");
  for (const std::string name : {"rows", "large_values", "last_axis", "log_rows"})
    for (const std::int64_t extra : {0, 3}) {
      CAPTURE(name);
      const auto& x_golden = file.at(name + ".x");
      const std::int64_t c = x_golden.shape.back();
      const Shape s{1, 1, x_golden.count() / c, c};  // the softmax runs over the last axis as stored: our channels
      const bool log = name == "log_rows";
      Guarded x(s, x_golden.f32(), DType::f32, extra, 1), dy(s, file.at(name + ".gy").f32(), DType::f32, 0, extra);
      Guarded y(s, DType::f32, extra, 0), dx(s, DType::f32, 1, extra);
      backend->softmax_forward({x.view(), y.view(), log});
      backend->softmax_backward({y.view(), dy.view(), dx.view(), log});
      CHECK(relative_error(y.values(), file.at(name + ".y").f32()) < 5e-7);
      CHECK(relative_error(dx.values(), file.at(name + ".gx").f32()) < 5e-7);
      CHECK((y.intact() && dx.intact()));
    }
}

TEST_CASE("cross_entropy: golden") {
  const auto file = golden::load("ops_cross_entropy");
  for (const std::string name : {"smoothing0", "smoothing01"}) {
    CAPTURE(name);
    const auto x = file.at(name + ".x").f32();
    const auto labels = file.at(name + ".target").values<std::int64_t>();
    std::vector<float> loss(2, 7.0f), grad(x.size() + 1, 7.0f);
    backend->cross_entropy(
        {x.data(), labels.data(), 6, 7, file.fact_json(name + ".attributes")["label_smoothing"], loss.data(), grad.data()});
    CHECK(loss[0] == doctest::Approx(file.at(name + ".y").f32()[0]).epsilon(1e-6));
    CHECK(loss[1] == 7.0f);
    CHECK(grad.back() == 7.0f);
    grad.pop_back();
    CHECK(relative_error(grad, file.at(name + ".gx").f32()) < 5e-7);
    loss[0] = 0;
    backend->cross_entropy({x.data(), labels.data(), 6, 7, 0, loss.data(), nullptr});
    CHECK(loss[0] > 0);
  }
}

TEST_CASE("cross_entropy: a thousand classes and huge logits, against plain loops in double; scaled; a bad label shows") {
  const std::int64_t rows = 37, classes = 1000;
  const auto x = randoms(rows * classes, 1, 50, 30);
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < rows; ++i) labels.push_back(i * 29 % classes);
  const float e = 0.1f;
  std::vector<float> grad(x.size());
  float loss = 0;
  backend->cross_entropy({x.data(), labels.data(), rows, classes, e, &loss, grad.data()});
  double want = 0;
  std::vector<double> want_grad(x.size());
  for (std::int64_t i = 0; i < rows; ++i) {
    const float* row = x.data() + i * classes;
    double top = row[0], sum = 0;
    for (std::int64_t j = 0; j < classes; ++j) top = std::max<double>(top, row[j]);
    for (std::int64_t j = 0; j < classes; ++j) sum += std::exp(row[j] - top);
    for (std::int64_t j = 0; j < classes; ++j) {
      const double target = (j == labels[static_cast<std::size_t>(i)] ? 1 - e : 0) + e / double(classes);
      want -= target * (row[j] - top - std::log(sum)) / double(rows);
      want_grad[static_cast<std::size_t>(i * classes + j)] = (std::exp(row[j] - top) / sum - target) / double(rows);
    }
  }
  CHECK(loss == doctest::Approx(want).epsilon(1e-6));
  CHECK(relative_error(grad, want_grad) < 1e-6);
  const float scale = 512;  // of f16 training: a power of two, so nothing is rounded
  std::vector<float> scaled(x.size());
  const float before = loss;
  backend->cross_entropy({x.data(), labels.data(), rows, classes, e, &loss, scaled.data(), &scale});
  CHECK(loss == before);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < grad.size(); ++i) wrong += scaled[i] != scale * grad[i];
  CHECK(wrong == 0);
  labels[3] = classes;
  const auto bad = [&] { backend->cross_entropy({x.data(), labels.data(), rows, classes, e, &loss, grad.data()}); };
  if (frost::testing::on_cpu()) {
    CHECK_THROWS_WITH_AS(bad(), "cross entropy: label 1000 in row 3, there are 1000 classes", Error);
  } else {
    bad();
    CHECK(std::isnan(loss));
  }
}
