#include "tests/models/classifier_checks.h"

using namespace frost::testing;

TEST_CASE("inception_v3: names, logits, gradients and statistics against float64") { check_golden("inception_v3"); }
TEST_CASE("inception_v3: trains, freezes, is pruned") {
  check_training("inception_v3");
  check_freezing("inception_v3", 17, {"fc.weight", "fc.bias"});
  check_pruning("inception_v3");
}
