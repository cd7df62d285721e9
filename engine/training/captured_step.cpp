#include "engine/training/captured_step.h"

namespace frost {
namespace {

/// The host's information about a model's values: versions and counts.
struct HostState {
  std::vector<std::pair<Parameter*, std::uint64_t>> parameters;
  std::vector<std::pair<Buffer*, std::uint64_t>> buffers;
  std::vector<std::pair<Counter*, std::int64_t>> counters;
  explicit HostState(Module* model) {
    if (!model) return;
    model->visit({.parameter = [&](Parameter& p) { parameters.emplace_back(&p, p.version); },
                  .buffer = [&](Buffer& b) { buffers.emplace_back(&b, b.version); },
                  .counter = [&](Counter& c) { counters.emplace_back(&c, c.value); }});
  }
};

}  // namespace

CapturedStep::CapturedStep(Device& device, Module* model, bool enabled)
    : device_(device), model_(model), enabled_(enabled && device.backend().can_capture()) {
  pool_.emplace(device.allocator());
}

CapturedStep::~CapturedStep() {
  try {
    forget();
  } catch (const Error&) {  // a broken device: its error is already being thrown
    graphs_.clear();
    account(0);
  }
}

void CapturedStep::forget() {
  if (captured_ > 0) device_.backend().synchronize();  // no replay may run when its memory is freed
  graphs_.clear();
  captured_ = 0;
  account(0);
  pool_.emplace(device_.allocator());
}

void CapturedStep::run(const Key& key, const std::function<void()>& work) {
  if (!enabled_) return work();
  Graph& graph = graphs_[key];
  if (!graph.ran || !will_capture(key)) {
    graph.ran = true;  // plans are found, caches filled, lazy memory made
    return work();
  }
  if (!graph.work) {
    capture(graph, work);
  } else {
    repeat_on_host(graph);
    ++replays_;
  }
  graph.work->replay();
}

void CapturedStep::capture(Graph& graph, const std::function<void()>& work) {
  // Filters in a device's own order are kept under their version. What training changes gets new versions first, so that the
  // capture contains their conversion and each replay sees the new values.
  if (model_)
    for (Parameter* p : model_->parameters())
      if (p->trainable) p->touch();
  const HostState before(model_);
  Backend& backend = device_.backend();
  // The captured graph replaces the memory of the run without a capture: both need not fit at once. The device gets it back
  // when the queued work is done.
  device_.allocator().trim();
  backend.synchronize();
  account(0);
  {
    const Allocator::PoolGuard into(device_.allocator(), *pool_);
    backend.begin_capture();
    try {
      work();
    } catch (...) {
      try {
        backend.end_capture();
      } catch (const Error&) {  // the first error is the one to report
      }
      throw;
    }
    graph.work = device_.explaining([&] { return backend.end_capture(); });
  }
  account(pool_->free_bytes());
  ++captured_;
  for (const auto& [p, version] : before.parameters)
    if (p->version != version) graph.parameters.push_back(p);
  for (const auto& [b, version] : before.buffers)
    if (b->version != version) graph.buffers.push_back(b);
  for (const auto& [c, value] : before.counters)
    if (c->value != value) graph.counters.emplace_back(c, c->value - value);
}

/// Memory that no tensor uses between two replays still belongs to the captured graphs.
void CapturedStep::account(std::size_t bytes) {
  if (bytes == accounted_) return;
  Ledger& ledger = device_.ledger();
  const Ledger::Scope scope = ledger.scope("captured work");
  ledger.remove(Role::workspace, scope, static_cast<std::int64_t>(accounted_));
  ledger.add(Role::workspace, scope, static_cast<std::int64_t>(bytes));
  accounted_ = bytes;
}

void CapturedStep::repeat_on_host(Graph& graph) {
  for (Parameter* p : graph.parameters) p->touch();
  for (Buffer* b : graph.buffers) b->touch();
  for (const auto& [counter, more] : graph.counters) counter->value += more;
}

}  // namespace frost
