#include "tests/models/classifier_checks.h"

using namespace frost::testing;

TEST_CASE("mobilenet_v2: names, logits, gradients and statistics against float64") { check_golden("mobilenet_v2"); }
TEST_CASE("mobilenet_v2: trains, freezes, is pruned") {
  check_training("mobilenet_v2");
  check_freezing("mobilenet_v2", 20, {"classifier.1.weight", "classifier.1.bias"});
  check_pruning("mobilenet_v2");
}
