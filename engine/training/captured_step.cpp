#include "engine/training/captured_step.h"

namespace frost {
namespace {

/// What the host knows of a model's values: names of contents, counts.
struct HostState {
  std::vector<std::pair<Parameter*, std::uint64_t>> parameters;
  std::vector<std::pair<Buffer*, std::uint64_t>> buffers;
  std::vector<std::pair<Counter*, std::int64_t>> counters;
  explicit HostState(Module* model) {
    if (!model) return;
    model->visit({.parameter = [&](Parameter& p) { parameters.emplace_back(&p, p.stamp); },
                  .buffer = [&](Buffer& b) { buffers.emplace_back(&b, b.stamp); },
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
  } catch (const Error&) {  // a broken device: the error that told of it is on its way
    recordings_.clear();
    book(0);
  }
}

void CapturedStep::forget() {
  if (captured_ > 0) device_.backend().synchronize();  // nothing replays when its memory goes
  recordings_.clear();
  captured_ = 0;
  book(0);
  pool_.emplace(device_.allocator());
}

void CapturedStep::run(const Key& key, const std::function<void()>& work) {
  if (!enabled_) return work();
  Recording& recording = recordings_[key];
  if (!recording.ran || !records(key)) {
    recording.ran = true;  // plans are found, caches filled, lazy memory made
    return work();
  }
  if (!recording.work) {
    capture(recording, work);
  } else {
    repeat_on_host(recording);
    ++replays_;
  }
  recording.work->replay();
}

void CapturedStep::capture(Recording& recording, const std::function<void()>& work) {
  // Filters in a device's own order are kept under their stamp. What training changes gets new stamps first, so that the
  // capture contains their conversion and each replay sees the new values.
  if (model_)
    for (Parameter* p : model_->parameters())
      if (p->trainable) p->touch();
  const HostState before(model_);
  Backend& backend = device_.backend();
  // The recording takes the place of the memory that the run without a capture used: both at once need not fit. The device
  // has it back when what is queued is done.
  device_.allocator().trim();
  backend.synchronize();
  book(0);
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
    recording.work = device_.explaining([&] { return backend.end_capture(); });
  }
  book(pool_->free_bytes());
  ++captured_;
  for (const auto& [p, stamp] : before.parameters)
    if (p->stamp != stamp) recording.parameters.push_back(p);
  for (const auto& [b, stamp] : before.buffers)
    if (b->stamp != stamp) recording.buffers.push_back(b);
  for (const auto& [c, value] : before.counters)
    if (c->value != value) recording.counters.emplace_back(c, c->value - value);
}

/// What no tensor uses between two replays still belongs to the recordings.
void CapturedStep::book(std::size_t bytes) {
  if (bytes == booked_) return;
  Ledger& ledger = device_.ledger();
  const Ledger::Scope scope = ledger.scope("recorded work");
  ledger.remove(Role::workspace, scope, static_cast<std::int64_t>(booked_));
  ledger.add(Role::workspace, scope, static_cast<std::int64_t>(bytes));
  booked_ = bytes;
}

void CapturedStep::repeat_on_host(Recording& recording) {
  for (Parameter* p : recording.parameters) p->touch();
  for (Buffer* b : recording.buffers) b->touch();
  for (const auto& [counter, more] : recording.counters) counter->value += more;
}

}  // namespace frost
