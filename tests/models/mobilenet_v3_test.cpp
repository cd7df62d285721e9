#include "tests/models/classifier_checks.h"

using namespace frost::testing;

TEST_CASE("mobilenet_v3: names, logits, gradients and statistics against float64") {
  for (const std::string name : {"mobilenet_v3_small", "mobilenet_v3_large"}) {
    CAPTURE(name);
    check_golden(name);
  }
}
TEST_CASE("mobilenet_v3: trains, freezes, is pruned") {
  for (const auto& [name, layers] : {std::pair{"mobilenet_v3_small", 15}, {"mobilenet_v3_large", 19}}) {
    CAPTURE(name);
    check_training(name);
    check_freezing(name, layers, {"classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias"});
    check_pruning(name);
  }
}
