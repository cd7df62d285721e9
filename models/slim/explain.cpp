#include "models/slim/explain.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>

#include "engine/training/ema.h"

namespace frost::slim {
namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

enum class Phase { idle, forward, backward, update };

/// Costs by module path, gathered while a step runs.
class Accounts {
 public:
  explicit Accounts(Timer timer = {}) : timer_(std::move(timer)) {}

  void clear() { by_path_.clear(), calls_ = {}; }
  void watch(Device& device) { device_ = &device; }
  void begin(Phase phase) { phase_ = phase; }
  StepCost& at(const std::string& path) { return by_path_[path]; }
  const std::map<std::string, StepCost>& all() const { return by_path_; }
  const auto& calls() const { return calls_; }

  void observe(const PrimitiveCall& call) {
    if (phase_ == Phase::idle) return;
    ++calls_[static_cast<std::size_t>(call.primitive)];
    StepCost& cost = at(device_->ledger().scope_name(device_->scope()));
    cost.forward_flops += call.forward_flops;
    cost.dgrad_flops += call.dgrad_flops;
    cost.wgrad_flops += call.wgrad_flops;
    const double seconds = timer_ ? timer_(call) : call.seconds;
    (phase_ == Phase::forward    ? cost.forward_seconds
     : phase_ == Phase::backward ? cost.backward_seconds
                                 : cost.update_seconds) += seconds;
    if (call.primitive == Primitive::detect_loss || call.primitive == Primitive::cross_entropy) phase_ = Phase::backward;
  }

 private:
  Timer timer_;
  Device* device_ = nullptr;
  Phase phase_ = Phase::idle;
  std::map<std::string, StepCost> by_path_;
  std::array<std::int64_t, 64> calls_{};
};

/// What the arena, the optimizer and the average hold for one of the arena's members.
void account_member(StepCost& cost, const ParameterGroup& group, std::size_t i) {
  const std::int64_t end = i + 1 < group.offsets.size() ? group.offsets[i + 1] : group.count();
  const std::int64_t bytes = (end - group.offsets[i]) * static_cast<std::int64_t>(sizeof(float));
  const auto held = [bytes](const Tensor& t) { return t ? bytes : 0; };
  cost.weights += held(group.value) + held(group.mask);
  cost.gradients += held(group.grad);
  cost.optimizer += held(group.momentum) + held(group.second_moment);
  cost.ema += held(group.ema);
}

std::string owner(const std::string& tensor) {
  const auto dot = tensor.rfind('.');
  return dot == std::string::npos ? "" : tensor.substr(0, dot);
}
std::int64_t bytes_of(const Tensor& t) { return t.elements() * static_cast<std::int64_t>(size_of(t.dtype())); }

void account_state(Accounts& accounts, Module& model, ParameterArena& arena,
                   const std::function<bool(const Buffer&)>& averaged) {
  model.visit({.parameter =
                   [&](Parameter& p) {
                     StepCost& cost = accounts.at(owner(p.name));
                     cost.parameters += p.value.elements();
                     if (p.trainable) cost.trainable += p.value.elements();
                     if (!p.trainable) cost.weights += bytes_of(p.value) + (p.mask ? bytes_of(p.mask) : 0);
                   },
               .buffer =
                   [&](Buffer& b) {
                     StepCost& cost = accounts.at(owner(b.name));
                     cost.buffers += bytes_of(b.value);
                     if (averaged(b)) cost.ema += bytes_of(b.value);
                   },
               .counter = {}});
  for (const ParameterGroup& group : arena.groups())
    for (std::size_t i = 0; i < group.members.size(); ++i)
      account_member(accounts.at(owner(group.members[i]->name)), group, i);
}

/// As --freeze takes it where it can: "layer1", "features.0-4"; "conv1, bn1".
std::string row_name(const std::vector<std::string>& prefixes) {
  std::vector<std::string> names;
  for (const std::string& prefix : prefixes) names.push_back(prefix.substr(0, prefix.size() - 1));
  const std::string &first = names.front(), &last = names.back();
  const std::size_t dot = first.rfind('.');
  if (names.size() > 1 && dot != std::string::npos && last.starts_with(first.substr(0, dot + 1)))
    return first + "-" + last.substr(dot + 1);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// Rows with their parts; what is in no row is the rest.
void fill(StepReport& report, Model& model, const Accounts& accounts) {
  struct Leaf {
    std::size_t place;
    std::string type;
  };
  std::map<std::string, Leaf> leaves;
  model.walk([&](const std::string& name, Module& module) {
    leaves[name] = {leaves.size(), dynamic_cast<Conv2d*>(&module)        ? "convolution"
                                   : dynamic_cast<BatchNorm2d*>(&module) ? "batch norm"
                                   : dynamic_cast<Linear*>(&module)      ? "linear"
                                   : dynamic_cast<ConvNormAct*>(&module) ? "fused convolution"  // else it costs nothing
                                                                         : ""};
  });
  const std::vector<std::vector<std::string>>& rows = model.layers().prefixes;
  for (std::size_t i = 0; i < rows.size(); ++i)
    report.modules.push_back({row_name(rows[i]), model.layer_type(static_cast<int>(i)), {}, {}});
  for (const auto& [path, cost] : accounts.all()) {
    const auto holds = [place = path + "."](const std::vector<std::string>& prefixes) {
      return std::any_of(prefixes.begin(), prefixes.end(), [&](const auto& p) { return place.starts_with(p); });
    };
    const auto row = std::find_if(rows.begin(), rows.end(), holds);
    if (row == rows.end()) {
      report.rest.add(cost);
    } else {
      ModuleCost& module = report.modules[static_cast<std::size_t>(row - rows.begin())];
      module.cost.add(cost);
      module.parts.push_back({path, leaves.contains(path) ? leaves.at(path).type : "", cost, {}});
    }
    report.total.add(cost);
  }
  for (ModuleCost& row : report.modules)  // as the model lists them
    std::stable_sort(row.parts.begin(), row.parts.end(),
                     [&](const ModuleCost& a, const ModuleCost& b) { return leaves[a.name].place < leaves[b.name].place; });
}

/// A copy of the model on another device, as it is there: masks take memory too.
std::unique_ptr<Model> copy_of(Model& model, Device& device, bool all_trainable) {
  std::unique_ptr<Model> copy = model.copy_architecture(device);
  const std::vector<Parameter*> from = model.parameters(), to = copy->parameters();
  for (std::size_t i = 0; i < from.size(); ++i) {
    to[i]->trainable = all_trainable || from[i]->trainable;
    if (!from[i]->mask) continue;
    to[i]->mask = Tensor(device, to[i]->value.shape(), DType::f32, Role::parameter);
    to[i]->mask.fill_zero();
  }
  return copy;
}

StepReport run(Device& device, Accounts& accounts, Model& like, const MakeTask& make, const StepOptions& options,
               int steps) {
  accounts.watch(device);
  const std::unique_ptr<Model> copy = copy_of(like, device, options.all_trainable);
  Model& model = *copy;
  const std::unique_ptr<Task> task = make(device, model);
  ParameterArena arena(device, model, 0, options.ema);
  const auto moves = moving_statistics(model, options.frozen_bn);
  const auto averaged = [&](const Buffer& b) { return options.ema && moves(b); };
  std::optional<ModelEma> ema;
  if (options.ema) ema.emplace(device, model, arena, averaged);
  Optimizer optimizer(arena, device, options.optimizer);
  std::unique_ptr<Model> ema_model;
  if (options.validation) ema_model = model.copy_architecture(device);
  if (ema_model) ema->alias(*ema_model);
  task->begin_epoch(0);
  const auto step = [&] {
    accounts.begin(Phase::forward);
    task->train_batch();
    accounts.begin(Phase::update);
    optimizer.step(0.9f);
    if (ema) ema->update(optimizer.device_state());
    device.backend().synchronize();
    accounts.begin(Phase::idle);
  };
  const auto validate = [&] {
    ema->alias(*ema_model);
    task->validate(*ema_model, 0, false);
    forget_derived(*ema_model);  // as the training loop does
  };
  Ledger& ledger = device.ledger();
  for (int i = 0; i < options.warm_up; ++i) step();  // fused weights, filters in the device's own order: made once
  if (ema_model) validate();                         // the caches that it fills stay while the next epoch trains
  ledger.reset_peaks();
  StepReport report;
  Accounts fastest;
  for (int i = 0; i < steps; ++i) {
    accounts.clear();
    const auto start = Clock::now();
    step();
    const double seconds = seconds_since(start);
    if (i > 0 && seconds >= report.wall_seconds) continue;
    report.wall_seconds = seconds;
    fastest = accounts;
  }
  accounts = std::move(fastest);

  account_state(accounts, model, arena, averaged);
  for (const std::string& scope : ledger.scope_names()) {
    if (const auto saved = ledger.of(Role::saved_activation, scope).peak) accounts.at(scope).saved += saved;
    if (const auto kept = ledger.of(Role::buffer, scope).current; kept && !scope.empty()) accounts.at(scope).buffers += kept;
  }
  fill(report, model, accounts);
  for (int role = 0; role < kRoleCount; ++role) {
    const Ledger::Count count = ledger.of(static_cast<Role>(role));
    report.peaks[static_cast<std::size_t>(role)] = count.peak;
    report.resident[static_cast<std::size_t>(role)] = count.current;
  }
  report.peak = report.whole_peak = ledger.total().peak;
  StepCost loss;  // its balances are a buffer of no module
  loss.buffers = report.peak_of(Role::buffer) - report.total.buffers;
  report.rest.add(loss);
  report.total.add(loss);
  report.calls = accounts.calls();
  report.kept_each = task->kept_each();
  if (ema_model) {
    validate();
    for (int role = 0; role < kRoleCount; ++role)
      report.whole_peaks[static_cast<std::size_t>(role)] = ledger.of(static_cast<Role>(role)).peak;
    report.whole_peak = ledger.total().peak;
  }
  return report;
}

}  // namespace

void StepCost::add(const StepCost& o) {
  parameters += o.parameters, trainable += o.trainable;
  weights += o.weights, buffers += o.buffers, gradients += o.gradients;
  optimizer += o.optimizer, ema += o.ema, saved += o.saved;
  forward_flops += o.forward_flops, dgrad_flops += o.dgrad_flops, wgrad_flops += o.wgrad_flops;
  forward_seconds += o.forward_seconds, backward_seconds += o.backward_seconds, update_seconds += o.update_seconds;
}

StepReport predict_step(Model& model, const MakeTask& make, const StepOptions& options, const Backend& like,
                        const Timer& timer) {
  Accounts accounts(timer ? timer : [](const PrimitiveCall&) { return 0.0; });
  Device device(make_meta_backend(like, [&](const PrimitiveCall& call) { accounts.observe(call); }));
  StepReport report = run(device, accounts, model, make, options, 1);
  report.wall_seconds = 0;
  return report;
}

StepReport measure_step(Model& model, const MakeTask& make, const StepOptions& options, Backend& backend, int steps) {
  Accounts accounts;
  Device device(make_watched_backend(backend, [&](const PrimitiveCall& call) { accounts.observe(call); }));
  return run(device, accounts, model, make, options, steps);
}

}  // namespace frost::slim
