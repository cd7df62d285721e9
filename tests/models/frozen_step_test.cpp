#include <doctest/doctest.h>

#include <map>

#include "engine/training/updater.h"
#include "kernels/trace/trace.h"
#include "models/freeze.h"
#include "models/slim/training_plan.h"
#include "models/yolo/training/step.h"
#include "tests/device.h"
#include "tests/models/model_fixture.h"

// What a frozen parameter never causes: work, on a counter of executed primitives, and memory, on the ledger. Exact numbers
// for one step of a YOLOv5n, each from the graph: convolutions by layer, strides and widths, none from the code under test.
using namespace frost;

namespace {
constexpr std::int64_t kBatch = 2, kHeight = 96, kWidth = 128;

struct Counts : std::map<Primitive, int> {
  int of(Primitive p) const {
    const auto it = find(p);
    return it == end() ? 0 : it->second;
  }
};

struct Step {
  Counts forward, backward;
  std::int64_t saved = 0, saved_peak = 0;  // bytes: after the forward pass, at most
};

struct Net {
  Counts counts;
  std::unique_ptr<Backend> backend = frost::testing::make_device_backend(true);
  Device device{make_watched_backend(*backend, [this](const PrimitiveCall& call) { ++counts[call.primitive]; })};
  DetectionModel model{device, load_model_spec("yolov5n", 3), 1};
  LayerNames layers = model.layers();

  Step step(FrozenBn frozen_bn = FrozenBn::running) {
    Tensor image(device, {kBatch, kHeight, kWidth, 3}, DType::f32, Role::input);
    image.assign(std::vector<float>(static_cast<std::size_t>(image.elements()), 0.5f));
    Tape tape;
    Context context{.device = device, .tape = &tape, .training = true, .frozen_bn = frozen_bn};
    Step result;
    device.ledger().reset_peaks();
    counts.clear();
    std::vector<Var> maps = model.heads(context, {image, -1, nullptr});
    result.forward = counts;
    result.saved = device.ledger().of(Role::saved_activation).current;
    std::vector<std::pair<int, Tensor>> seeds;
    for (const Var& map : maps) {
      Tensor dy(device, map.shape());
      dy.assign(std::vector<float>(static_cast<std::size_t>(dy.elements()), 1e-3f));
      seeds.emplace_back(map.slot, std::move(dy));
    }
    maps.clear();
    counts.clear();
    tape.backward(std::move(seeds));
    result.backward = counts;
    result.saved_peak = device.ledger().of(Role::saved_activation).peak;
    return result;
  }
};

struct Expected {
  std::vector<std::string> freeze;
  FrozenBn frozen_bn;
  int wgrad, dgrad, batch_norms, norms, norm_backward, pool_backward, resize_backward;
};
}  // namespace

TEST_CASE("frozen: exactly the primitives that are needed are executed") {
  // YOLOv5n has 33 convolutions in layers 0-9, 24 in 10-23, 3 in Detect; each of the first 57 has a batch norm. One in a
  // block that needs no gradient runs fused into its convolution, and counts no norm.
  const auto running = FrozenBn::running, batch = FrozenBn::batch;
  const std::vector<Expected> table{
      //                                wgrad dgrad batch norms  back pools resizes
      {{"0"}, running, 60, 59, 57, 57, 57, 3, 2},
      {{"10"}, running, 27, 26, 24, 24, 24, 0, 2},  // layer 10 reads a constant: no dgrad
      {{"24"}, running, 3, 0, 0, 0, 0, 0, 0},
      {{"!24"}, running, 3, 0, 0, 0, 0, 0, 0},
      {{"25"}, running, 0, 0, 0, 0, 0, 0, 0},
      {{"10-24"}, running, 33, 59, 33, 57, 57, 3, 2},  // frozen above what trains: dgrad all the way, no wgrad
      {{"1-24"}, running, 1, 59, 1, 57, 57, 3, 2},
      // Only the C3 of layer 13: 34 blocks below it are constant. Of its five convolutions two read constants; 21 above.
      {{"!13"}, running, 5, 24, 5, 23, 23, 0, 1},
      {{"model.*.bn.*"}, running, 60, 59, 0, 57, 57, 3, 2},
      {{"*.conv.weight"}, running, 3, 59, 57, 57, 57, 3, 2},
      {{"0-23", "model.24.m.*.weight"}, running, 0, 0, 0, 0, 3, 0, 0},  // three biases: the sums of dy
      {{"0"}, batch, 60, 59, 57, 57, 57, 3, 2},
      {{"10"}, batch, 27, 26, 57, 57, 24, 0, 2},  // YOLOv5's frozen norms: statistics, no fusing
      {{"24"}, batch, 3, 0, 57, 57, 0, 0, 0},
  };
  Net net;
  for (const Expected& e : table) {
    CAPTURE(e.freeze[0]);
    CAPTURE(int(e.frozen_bn));
    frost::freeze(net.model, net.layers, e.freeze);
    const Step step = net.step(e.frozen_bn);
    CHECK(step.forward.of(Primitive::conv_forward) == 60);
    CHECK(step.forward.of(Primitive::batch_statistics) == e.batch_norms);
    CHECK(step.forward.of(Primitive::norm_act_forward) == e.norms);
    CHECK(step.backward.of(Primitive::conv_backward_weight) == e.wgrad);
    CHECK(step.backward.of(Primitive::conv_backward_data) == e.dgrad);
    CHECK(step.backward.of(Primitive::norm_act_backward) == e.norm_backward);
    CHECK(step.backward.of(Primitive::max_pool_backward) == e.pool_backward);
    CHECK(step.backward.of(Primitive::resize_backward) == e.resize_backward);
    CHECK(step.backward.of(Primitive::batch_statistics) == 0);
    CHECK(step.backward.of(Primitive::conv_forward) == 0);
    for (Parameter* p : net.model.parameters()) {
      CHECK(bool(p->grad) == p->trainable);
      p->grad = Tensor();
    }
  }
}

namespace {
/// Bytes of one map of `channels` at a layer's resolution.
std::int64_t map_bytes(int stride, std::int64_t channels) {
  return kBatch * (kHeight / stride) * (kWidth / stride) * channels * 4;
}
/// What the blocks (convolution, norm, SiLU) of layers [first, last] must keep: each its convolution's output, which SiLU's
/// derivative needs whatever is frozen; where it normalises with batch statistics, the two channel vectors besides.
std::int64_t blocks_bytes(Module& model, int first, int last, bool batch_statistics) {
  static const std::map<int, int> strides{{0, 2},   {1, 4},  {2, 4},   {3, 8},   {4, 8},   {5, 16},
                                          {6, 16},  {7, 32}, {8, 32},  {9, 32},  {10, 32}, {13, 16},
                                          {14, 16}, {17, 8}, {18, 16}, {20, 16}, {21, 32}, {23, 32}};
  std::int64_t bytes = 0;
  for (Parameter* p : model.parameters()) {  // each block has one norm weight, as wide as its convolution's output
    if (!p->name.ends_with(".bn.weight")) continue;
    const int layer = std::stoi(p->name.substr(6));
    if (layer < first || layer > last) continue;
    const std::int64_t channels = p->value.elements();
    bytes += map_bytes(strides.at(layer), channels) + (batch_statistics ? 2 * channels * 4 : 0);
  }
  return bytes;
}
}  // namespace

TEST_CASE("frozen layers above a trainable one save the exact minimum") {
  Net net;
  const auto saved = [&](const std::vector<std::string>& terms, FrozenBn frozen_bn = FrozenBn::running) {
    frost::freeze(net.model, net.layers, terms);
    const Step step = net.step(frozen_bn);
    CHECK(step.saved_peak == step.saved);  // nothing is accounted in between and given back
    for (Parameter* p : net.model.parameters()) p->grad = Tensor();
    return step.saved;
  };
  Module& m = net.model;
  const std::int64_t all = saved({"0"});
  CHECK(all == blocks_bytes(m, 0, 23, true));
  // Neck and head frozen: SiLU's derivative needs its input in every block, and nothing else is kept of a frozen one.
  CHECK(saved({"10-24"}) == blocks_bytes(m, 0, 9, true) + blocks_bytes(m, 10, 23, false));
  CHECK(saved({"1-24"}) == blocks_bytes(m, 0, 0, true) + blocks_bytes(m, 1, 23, false));
  // A frozen prefix keeps nothing; what the trainable convolutions above read of it are the outputs of layers 4, 6 and 9,
  // and for Detect alone those of 17, 20 and 23.
  CHECK(saved({"10"}) == blocks_bytes(m, 10, 23, true) + map_bytes(8, 64) + map_bytes(16, 128) + map_bytes(32, 256));
  CHECK(saved({"24"}) == map_bytes(8, 64) + map_bytes(16, 128) + map_bytes(32, 256));
  CHECK(saved({"25"}) == 0);
  // Layer 13 alone trains: its first two convolutions read layer 12, a constant; what is above passes the gradient on.
  CHECK(saved({"!13"}) == blocks_bytes(m, 13, 13, true) + blocks_bytes(m, 14, 23, false) + map_bytes(16, 256));
  // Frozen norms in trainable blocks need no channel vectors; frozen convolutions below trainable norms change nothing.
  CHECK(saved({"model.*.bn.*"}) == blocks_bytes(m, 0, 23, false));
  CHECK(saved({"*.conv.weight"}) == all);
  // Batch statistics: a norm that the gradient passes keeps its channel vectors, frozen or not; below, nothing is kept.
  CHECK(saved({"10-24"}, FrozenBn::batch) == all);
  CHECK(saved({"model.*.bn.*"}, FrozenBn::batch) == all);
  CHECK(saved({"10"}, FrozenBn::batch) == saved({"10"}));
  CHECK(saved({"24"}, FrozenBn::batch) == saved({"24"}));
}

TEST_CASE("gradients, optimizer state and averages exist for trainable values alone; the EMA model owns nothing") {
  for (const char* terms : {"0", "10", "24", "model.*.bn.*"}) {
    CAPTURE(terms);
    frost::testing::TestDevice device;
    DetectionModel model(device, load_model_spec("yolov5n", 3), 1), ema_model(device, load_model_spec("yolov5n", 3), 1);
    frost::freeze(model, model.layers(), {terms});
    std::int64_t trainable = 0, frozen = 0, moving = 0;  // values; arenas round each tensor up to 16
    for (const Parameter* p : model.parameters())
      (p->trainable ? trainable : frozen) += p->trainable ? (p->value.elements() + 15) / 16 * 16 : p->value.elements();
    const auto moves = [&](const Buffer& b) {  // statistics of norms that train
      if (!b.name.ends_with("running_mean") && !b.name.ends_with("running_var")) return false;
      const std::string norm = b.name.substr(0, b.name.rfind('.'));
      for (const Parameter* p : model.parameters())
        if (p->name == norm + ".weight") return p->trainable;
      return false;
    };
    for (const Buffer* b : model.buffers())
      if (moves(*b)) moving += b->value.elements();
    ParameterArena arena(device, model, 5e-4f, true);
    ModelEma ema(device, model, arena, moves);
    Updater updater(device, arena, ema, {}, OptimizerKind::adam, 10);
    ema.alias(ema_model);

    const Ledger& ledger = device.ledger();
    CHECK(ledger.of(Role::gradient).current == 4 * trainable);
    CHECK(ledger.of(Role::optimizer_state).current == 4 * (3 * trainable + moving));  // two moments, the average
    CHECK(ledger.of(Role::parameter).current == 4 * (trainable + frozen));            // the ema_model's are not among them
    std::map<std::string, const void*> values;
    for (const Parameter* p : model.parameters()) {
      CHECK(bool(p->grad) == p->trainable);
      values[p->name] = p->value.data();
    }
    for (const Parameter* p : ema_model.parameters()) {
      const bool shared = values.at(p->name) == p->value.data();
      for (const Parameter* original : model.parameters())
        if (original->name == p->name) CHECK(shared == !original->trainable);
    }
  }
}

namespace {
/// Gives every trainable parameter the gradient g(i) = c + i / 1000, the same in each run.
void fill_gradients(Module& model) {
  float c = 0.1f;
  for (Parameter* p : model.parameters()) {
    if (!p->trainable) continue;
    std::vector<float> g(static_cast<std::size_t>(p->value.elements()));
    for (std::size_t i = 0; i < g.size(); ++i) g[i] = c + static_cast<float>(i % 100) / 1000;
    p->grad.assign(g);
    c = -c;
  }
}

/// An update rule's machinery around a model, no clipping, no warm-up.
struct Machine {
  frost::testing::TestDevice device;
  DetectionModel model{device, load_model_spec("yolov5n", 3), 1};
  LayerNames layers = model.layers();
  std::unique_ptr<ParameterArena> arena;
  std::unique_ptr<ModelEma> average;
  std::unique_ptr<Updater> updater;
  void start(OptimizerKind kind) {
    arena = std::make_unique<ParameterArena>(device, model, 5e-4f, true);
    average = std::make_unique<ModelEma>(device, model, *arena, [](const Buffer&) { return false; });
    updater = std::make_unique<Updater>(device, *arena, *average,
                                        ScheduleConfig{.lr0 = 0.01,
                                                       .momentum = 0.9,
                                                       .warmup_epochs = 0,
                                                       .warm_momentum = false,
                                                       .batches_per_epoch = 1,
                                                       .batch_size = 64,
                                                       .minimum_warmup = 0},
                                        kind, 0.0);
  }
  double step(std::int64_t epoch) {  // returns the schedule's rate, the same for all kinds here
    const Schedule::Step now = updater->begin_batch(epoch, 0);
    fill_gradients(model);
    updater->end_batch();
    return now.lr[0];
  }
  std::map<std::string, std::vector<float>> values() {
    std::map<std::string, std::vector<float>> all;
    for (const Parameter* p : model.parameters()) all[p->name] = p->value.to_vector();
    return all;
  }
};
}  // namespace

TEST_CASE("--lr-scale: one step equals the closed form with the scaled rate") {
  Machine machine;
  const std::vector<std::string> lines =
      scale_learning_rates(machine.model, machine.layers, {"model.0-9:0.1", "model.*.bn.*:0.5", "model.24:2"});
  CHECK(lines.size() == 3);
  CHECK(lines[0] == "learning rate x 0.1 for 99 tensors of model.0-9");
  machine.start(OptimizerKind::sgd);
  const auto before = machine.values();
  const double lr = machine.step(1);
  float c = 0.1f;
  double worst = 0;
  for (const Parameter* p : machine.model.parameters()) {
    const int layer = std::stoi(p->name.substr(6));
    const bool norm = p->name.find(".bn.") != std::string::npos;
    const double scale = layer == 24 ? 2 : norm ? 0.5 : layer < 10 ? 0.1 : 1;
    const double decay = !norm && p->name.ends_with("weight") ? 5e-4 : 0;
    const std::vector<float>&old = before.at(p->name), now = p->value.to_vector();
    for (std::size_t i = 0; i < old.size(); ++i) {
      // the first step of SGD with Nesterov momentum m: v - lr (g + m g), g with its decay
      const double g = c + static_cast<double>(i % 100) / 1000 + decay * old[i];
      const double expected = old[i] - lr * scale * 1.9 * g, off = std::abs(now[i] - expected);
      if (!(off <= worst) && !std::isnan(worst)) worst = off;  // a NaN stays
    }
    c = -c;
  }
  CHECK(worst < 3e-7);  // float32 around values of order 1
}

TEST_CASE("--lr-scale: what cannot be read, or names nothing, is an error") {
  Machine machine;
  for (const char* text :
       {"model.0", "model.0:", "model.0:x", "model.0:0", "model.0:-1", "model.0:inf", "nothing:0.1", ":1"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(scale_learning_rates(machine.model, machine.layers, {text}), Error);
  }
}

TEST_CASE("--unfreeze-at: what was trained keeps momentum and average; what is unfrozen begins as on the first step") {
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adam}) {
    CAPTURE(int(kind));
    // `late` trains layer 24 for two steps, then layers 10-24; `head` trains layer 24 alone; `fresh` begins with the values
    // of `late` when layers 10-23 are unfrozen, and trains these.
    Machine late, head, fresh;
    for (Machine* m : {&late, &head}) {
      frost::freeze(m->model, m->layers, {"24"});
      m->start(kind);
      m->step(1), m->step(2);
    }
    const auto at_unfreeze = late.values();
    frost::freeze(late.model, late.layers, {"10"});
    CHECK(late.updater->unfreeze(late.updater->optimizer().state().steps) == 72);
    CHECK(late.values() == at_unfreeze);
    for (const ParameterGroup& group : late.arena->groups())
      if (group.born > 0)
        for (std::size_t i = 0; i < group.members.size(); ++i) {
          const Parameter& p = *group.members[i];
          CHECK(group.ema.part(group.offsets[i], p.value.shape()).to_vector() == p.value.to_vector());
          CHECK(group.momentum.to_vector() == std::vector<float>(static_cast<std::size_t>(group.count()), 0.0f));
        }
    for (Parameter* p : fresh.model.parameters()) p->value.assign(at_unfreeze.at(p->name)), p->touch();
    frost::freeze(fresh.model, fresh.layers, {"0-9", "24"});
    fresh.start(kind);
    // The same schedule position for all three, and gradients that do not depend on who else trains: see fill_gradients.
    late.step(3), head.step(3), fresh.step(3);
    const auto now = late.values(), alone = head.values(), unfrozen = fresh.values();
    for (const auto& [name, values] : now) {
      INFO(name);
      const int layer = std::stoi(name.substr(6));
      if (layer < 10) CHECK((values == at_unfreeze.at(name)));
      if (layer >= 10 && layer < 24) CHECK((values == unfrozen.at(name)));
      if (layer == 24) CHECK((values == alone.at(name)));
    }
    CHECK_THROWS_AS((frost::freeze(late.model, late.layers, {"24"}), late.updater->unfreeze(3)),
                    Error);  // nothing is frozen again
  }
}

TEST_CASE("--unfreeze-at: stages must follow each other and unfreeze something") {
  Machine machine;
  const auto stages = [&](const std::vector<std::string>& texts, const std::vector<std::string>& frozen) {
    return unfreeze_stages(machine.model, machine.layers, texts, frozen);
  };
  const auto good = stages({"5:6", "8:0"}, {"10"});
  REQUIRE(good.size() == 2);
  CHECK(good[0].epoch == 5);
  CHECK(good[0].freeze == std::vector<std::string>{"6"});
  CHECK(good[1].freeze == std::vector<std::string>{"0"});
  CHECK(freeze_summary(machine.model) == "frozen: 99 of 177 tensors, 1046368 of 1767976 parameters");  // as --freeze 10
  CHECK(stages({"1:0-3,9"}, {"10"})[0].freeze == std::vector<std::string>{"0-3", "9"});
  for (const std::vector<std::string>& texts : std::vector<std::vector<std::string>>{{"5"},
                                                                                     {"5:"},
                                                                                     {":3"},
                                                                                     {"x:3"},
                                                                                     {"0:3"},
                                                                                     {"5:6", "5:0"},
                                                                                     {"8:3", "5:0"},
                                                                                     {"5:12"},
                                                                                     {"5:10"},
                                                                                     {"5:99"},
                                                                                     {"5:6", "8:7"}}) {
    CAPTURE(texts.back());
    CHECK_THROWS_AS(stages(texts, {"10"}), Error);
  }
}

TEST_CASE("--unfreeze-at and --lr-scale: more groups than the optimizer has room for are refused before training") {
  // Layer 24 has weights and biases, the others norms too: two groups, three for each stage, another three for layer 9.
  const std::vector<int> stages{23, 21, 20, 18, 17, 14, 13, 10, 8};
  slim::PlanFlags flags{
      .freeze = {"24"}, .unfreeze_at = {}, .lr_scale = {"model.9:0.5"}, .prune_schedule = "", .epochs = 20};
  for (std::size_t i = 0; i < stages.size(); ++i)
    flags.unfreeze_at.push_back(std::to_string(i + 1) + ":" + std::to_string(stages[i]));
  Machine machine;
  const slim::Plan plan(machine.model, flags, silence());
  CHECK(freeze_summary(machine.model).find("frozen: 171 of 177 tensors") == 0);  // as --freeze 24 leaves it
  machine.start(OptimizerKind::sgd);
  CHECK(machine.arena->groups().size() == 2);
  for (std::size_t i = 0; i < stages.size(); ++i) {
    frost::freeze(machine.model, machine.layers, {std::to_string(stages[i])});
    machine.updater->unfreeze(static_cast<std::int64_t>(i));
  }
  CHECK(std::ssize(machine.arena->groups()) == kStepGroups);  // just what there is room for

  Machine other;
  flags.lr_scale.push_back("model.24.m.0:2");  // its weight and its bias get groups of their own
  CHECK_THROWS_WITH_AS(slim::Plan(other.model, flags, silence()),
                       "--unfreeze-at, --lr-scale: 34 groups of parameters (by stage, scale, and weights, biases or norms), "
                       "there is room for 32: fewer stages, or fewer different scales",
                       Error);
}
