#include "models/slim/gradual.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"
#include "engine/checkpoint/sparse_checkpoint.h"
#include "engine/training/ema.h"
#include "models/slim/prune.h"
#include "tests/device.h"

// Masked weights while training: they stay zero whatever pulls at them.
using namespace frost;
using namespace frost::slim;

namespace {

std::unique_ptr<Sequential> small_net(Device& device) {
  auto net = std::make_unique<Sequential>();
  const ConvGeometry three{.kernel_h = 3, .kernel_w = 3, .pad_h = 1, .pad_w = 1};
  net->append(std::make_unique<ConvNormAct>(device, 3, 13, three, Activation{ActivationKind::silu}));
  net->append(std::make_unique<ConvNormAct>(device, 13, 9, three, Activation{ActivationKind::silu}));
  net->append(std::make_unique<Conv2d>(device, 9, 7, ConvGeometry{}, true));
  net->name_all("");
  Rng rng(3);
  for (Conv2d* conv : prunable(*net)) conv->initialise(rng);
  return net;
}

/// One optimizer step with random gradients everywhere, masked weights included.
void random_step(ParameterArena& arena, Optimizer& optimizer, Rng& rng) {
  for (ParameterGroup& group : arena.groups()) {
    if (!group.value) continue;
    group.lr = 0.02f;
    std::vector<float> grad(static_cast<std::size_t>(group.count()));
    for (float& g : grad) g = static_cast<float>(rng.uniform(-1, 1));
    group.grad.assign(grad);
  }
  optimizer.step(0.9f);
}

/// Every tensor beside the weights is zero where the mask is; `alive`: and not zero where it is not.
void check_masked(const ParameterGroup& group, bool alive) {
  if (group.kind != ParameterArena::kWeight) return;
  for (const Tensor* tensor : {&group.value, &group.momentum, &group.second_moment, &group.ema}) {
    if (!*tensor) continue;
    for (std::size_t i = 0; i < group.members.size(); ++i) {
      const Shape shape = group.members[i]->value.shape();
      const std::vector<float> values = tensor->part(group.offsets[i], shape).to_vector(),
                               mask = group.members[i]->mask.to_vector();
      std::int64_t wrong = 0;
      for (std::size_t k = 0; k < values.size(); ++k)
        wrong += values[k] == 0.0f ? alive && mask[k] != 0.0f : mask[k] == 0.0f;
      CAPTURE(group.members[i]->name);
      CHECK(wrong == 0);
    }
  }
}

}  // namespace

TEST_CASE("50 steps with momentum, decay and average keep exactly the same zeros") {
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adam, OptimizerKind::adamw}) {
    CAPTURE(name_of(kind));
    frost::testing::TestDevice device;
    const auto net = small_net(device);
    prune_l1(*net, 0.5);
    std::vector<std::vector<float>> masks;
    for (const Conv2d* conv : prunable(*net)) masks.push_back(conv->weight.mask.to_vector());
    ParameterArena arena(device, *net, 5e-4f, true);
    Optimizer optimizer(arena, device, kind);
    Rng rng(9);
    for (int step = 0; step < 50; ++step) random_step(arena, optimizer, rng);
    check_masked(arena.groups()[ParameterArena::kWeight], true);
    std::size_t layer = 0;
    for (const Conv2d* conv : prunable(*net)) CHECK((conv->weight.mask.to_vector() == masks[layer++]));
  }
}

TEST_CASE("masks travel with the state, into another model and through the average") {
  frost::testing::TestDevice device;
  const auto net = small_net(device), other = small_net(device);
  prune_l1(*net, 0.3);
  const StateDict state = dense_form(sparse_form({.tensors = state_of(*net), .metadata = {}})).tensors;
  const LoadReport report = load_state(*other, state);
  CHECK(report.unexpected.empty());
  CHECK(report.copied == report.total);
  const std::vector<Conv2d*> here = prunable(*net), there = prunable(*other);
  for (std::size_t i = 0; i < here.size(); ++i) {
    REQUIRE(there[i]->weight.mask);
    CHECK((there[i]->weight.mask.to_vector() == here[i]->weight.mask.to_vector()));
    CHECK((there[i]->weight.value.to_vector() == here[i]->weight.value.to_vector()));
  }
  load_state(*other, without_masks(state));  // without masks it is dense: nothing is held at zero
  const std::vector<float> mask = there[0]->weight.mask.to_vector();
  CHECK(std::count(mask.begin(), mask.end(), 1.0f) == static_cast<std::ptrdiff_t>(mask.size()));

  ParameterArena arena(device, *net, 0, true);
  const ModelEma ema(device, *net, arena, [](const Buffer&) { return true; });
  CHECK((ema.state().at("0.conv.weight.mask") == state.at("0.conv.weight.mask")));
  CHECK((ema.state().at("0.conv.weight") == state.at("0.conv.weight")));
}

TEST_CASE("the schedule: a cubic curve from one sparsity to the other, and what fits it") {
  const PruneSchedule s = parse_prune_schedule("0.1:0.6:10");
  CHECK(s.epochs == 10);
  CHECK(s.at(0) == doctest::Approx(0.1));
  CHECK(s.at(0.25) == doctest::Approx(0.6 - 0.5 * 27 / 64));
  CHECK(s.at(0.5) == doctest::Approx(0.6 - 0.5 / 8));
  CHECK(s.at(1) == doctest::Approx(0.6));
  for (const char* wrong :
       {"", "0.5", "0:0.6", "0:0.6:0", "0:0.6:x", "0:0.6:10:", "0.6:0.1:10", "-0.1:0.6:10", "0:1:10", "0:0.6:1e1"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parse_prune_schedule(wrong), Error);
  }
}

TEST_CASE("gradual pruning: what is unfrozen joins in; after the schedule it is pruned at once") {
  for (const std::int64_t epoch : {1, 2}) {
    CAPTURE(epoch);
    frost::testing::TestDevice device;
    const auto net = small_net(device);
    const std::vector<Conv2d*> convs = prunable(*net);
    convs[0]->weight.trainable = convs[1]->weight.trainable = false;
    GradualPruning gradual(*net, parse_prune_schedule("0:0.6:2"));
    ParameterArena arena(device, *net, 5e-4f, true);
    Optimizer optimizer(arena, device, OptimizerKind::adam);
    Rng rng(4);
    const std::int64_t batches = 5;
    for (std::int64_t e = 0; e < 3; ++e) {
      if (e == epoch) {
        const std::vector<float> trained = convs[2]->weight.mask.to_vector();
        for (const std::size_t i : {0, 1}) {
          CHECK_FALSE(convs[i]->weight.mask);
          convs[i]->weight.trainable = true;
        }
        gradual.unfreeze(e);
        CHECK((convs[2]->weight.mask.to_vector() == trained));  // the others are where they were
        arena.adopt(e * batches);
        optimizer.grow();
      }
      for (std::int64_t batch = 0; batch < batches; ++batch) {
        gradual.before_batch(arena, e, batch, batches);
        random_step(arena, optimizer, rng);
      }
    }
    for (const Conv2d* conv : convs) {
      const std::vector<float> mask = conv->weight.mask.to_vector();
      CHECK(std::count(mask.begin(), mask.end(), 0.0f) == pruned_count(0.6, static_cast<std::int64_t>(mask.size())));
    }
    for (const ParameterGroup& group : arena.groups()) check_masked(group, true);
  }
}

TEST_CASE("gradual pruning: ten times an epoch, never back, each time exactly the schedule's share") {
  for (const std::int64_t batches : {3, 25}) {
    CAPTURE(batches);
    frost::testing::TestDevice device;
    const auto net = small_net(device);
    const std::vector<Conv2d*> convs = prunable(*net);
    convs[0]->weight.trainable = false;
    const std::vector<float> frozen = convs[0]->weight.value.to_vector();
    const PruneSchedule schedule = parse_prune_schedule("0:0.6:2");
    GradualPruning gradual(*net, schedule);
    ParameterArena arena(device, *net, 5e-4f, true);
    Optimizer optimizer(arena, device, OptimizerKind::sgd);
    Rng rng(4);
    const std::int64_t all_updates = 2 * std::min<std::int64_t>(10, batches);
    std::int64_t updates = 0;
    std::vector<float> before = convs[1]->weight.mask.to_vector();
    for (std::int64_t epoch = 0; epoch < 3; ++epoch)
      for (std::int64_t batch = 0; batch < batches; ++batch) {
        if (gradual.before_batch(arena, epoch, batch, batches)) {
          const double x = static_cast<double>(updates++) / static_cast<double>(all_updates - 1);
          for (std::size_t i = 1; i < convs.size(); ++i) {
            const std::vector<float> mask = convs[i]->weight.mask.to_vector();
            const auto count = static_cast<std::int64_t>(mask.size());
            CHECK(std::count(mask.begin(), mask.end(), 0.0f) == pruned_count(schedule.at(x), count));
          }
          check_masked(arena.groups()[ParameterArena::kWeight], false);
          const std::vector<float> now = convs[1]->weight.mask.to_vector();
          bool revived = false;
          for (std::size_t i = 0; i < now.size(); ++i) revived |= now[i] > before[i];
          CHECK_FALSE(revived);
          before = now;
        }
        random_step(arena, optimizer, rng);
      }
    CHECK(updates == all_updates);
    for (std::size_t i = 1; i < convs.size(); ++i) {
      const std::vector<float> values = convs[i]->weight.value.to_vector();
      CHECK(std::count(values.begin(), values.end(), 0.0f) == pruned_count(0.6, static_cast<std::int64_t>(values.size())));
    }
    check_masked(arena.groups()[ParameterArena::kWeight], true);
    CHECK_FALSE(convs[0]->weight.mask);  // frozen means frozen
    CHECK((convs[0]->weight.value.to_vector() == frozen));
  }
}
