#include "tests/models/classifier_checks.h"

using namespace frost::testing;

TEST_CASE("xception: names, logits, gradients and statistics against float64") { check_golden("xception"); }
TEST_CASE("xception: trains, freezes, is pruned") {
  check_training("xception");
  check_freezing("xception", 17, {"fc.weight", "fc.bias"});
  check_pruning("xception");
}
