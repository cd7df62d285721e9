#include "kernels/math/bce.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/golden/golden.h"

using frost::math::bce_with_logits;

namespace {

// Mean loss and its gradient over the values of golden file `name`, case `key`.
template <class T>
void check_golden(const std::string& name, const std::string& key, double tolerance) {
  const auto file = frost::golden::load(name);
  const auto x = file.at(key + ".x").f32(), t = file.at(key + ".t").f32();
  const auto attributes = file.fact_json(key + ".attributes");
  const T pos_weight = attributes["pos_weight"].get<T>(), gamma = attributes.value("gamma", T(0));
  double sum = 0;
  std::vector<double> slope;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto term = bce_with_logits<T>(static_cast<T>(x[i]), static_cast<T>(t[i]), pos_weight, gamma);
    sum += term.value;
    slope.push_back(term.slope / static_cast<double>(x.size()));
  }
  CHECK(sum / static_cast<double>(x.size()) == doctest::Approx(file.at(key + ".y").f32()[0]).epsilon(tolerance));
  CHECK(frost::golden::relative_error(slope, file.at(key + ".gx").f32()) < tolerance);
}

}  // namespace

TEST_CASE("bce, focal: PyTorch's values and gradients") {
  for (const char* file : {"ops_bce_with_logits", "ops_focal_loss"}) {
    for (const char* key : {"pw1", "pw15"}) {
      INFO(file, " ", key);
      check_golden<double>(file, key, 1e-7);  // the file is rounded to f32
      check_golden<float>(file, key, 1e-6);   // a few f32 roundings
    }
  }
}

TEST_CASE("bce: the fixture of docs/spec/loss.md section 8.2") {
  const double mean = (bce_with_logits(0.3, 0.8, 0.5, 0.0).value + bce_with_logits(-1.2, 0.1, 0.5, 0.0).value) / 2;
  CHECK(mean == doctest::Approx(0.3513657).epsilon(1e-7));
}

TEST_CASE("bce, focal: slope is the derivative of value") {
  const double h = 1e-5;
  for (const double gamma : {0.0, 0.5, 1.0, 1.5, 3.0}) {
    for (const double x : {-9.0, -1.3, -0.2, 0.7, 2.1, 8.0}) {
      for (const double t : {0.0, 0.05, 0.5, 0.95, 1.0}) {
        const auto at = [&](double v) { return bce_with_logits(v, t, 1.7, gamma); };
        CHECK(at(x).slope == doctest::Approx((at(x + h).value - at(x - h).value) / (2 * h)).epsilon(1e-7));
      }
    }
  }
}

TEST_CASE("bce, focal: large logits stay finite and keep their digits") {
  for (const float gamma : {0.0f, 0.5f, 1.5f}) {
    for (const float x : {-1e4f, -200.0f, 0.0f, 200.0f, 1e4f}) {
      for (const float t : {0.0f, 0.3f, 1.0f}) {
        const auto term = bce_with_logits(x, t, 1.0f, gamma);
        INFO("x ", x, " t ", t, " gamma ", gamma);
        CHECK(std::isfinite(term.value));
        CHECK(std::isfinite(term.slope));
        CHECK(term.value >= 0);
      }
    }
  }
  // The textbook form, (1 - t) x + ..., loses these in f32: -20 + 20.000000002.
  CHECK(bce_with_logits(-20.0f, 0.0f, 1.0f, 0.0f).value == doctest::Approx(std::exp(-20.0)).epsilon(1e-6));
  CHECK(bce_with_logits(-20.0f, 0.0f, 1.0f, 0.0f).slope == doctest::Approx(std::exp(-20.0)).epsilon(1e-6));
}
