#pragma once
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/error.h"

namespace frost {

/// How batches are made. A batch is split into items so that all threads can work on the next batch. Results must not
/// depend on the calling thread or on the order of calls, except: open, then items, then close.
template <class Batch>
struct BatchSource {
  std::int64_t batches = 0;  // in an epoch
  /// Sizes the (recycled) batch and returns its number of items.
  std::function<std::int64_t(Batch&, std::int64_t epoch, std::int64_t batch)> open;
  /// Fills one item; several threads do so for one batch at once.
  std::function<void(Batch&, std::int64_t epoch, std::int64_t batch, std::int64_t item)> item;
  /// Does what needs all items; may be empty.
  std::function<void(Batch&, std::int64_t epoch, std::int64_t batch)> close;
};

struct LoaderOptions {
  int threads = 0;         // 0: everything happens inside next()
  int prefetch = 2;        // batches made ahead of the one in use
  bool run_ahead = false;  // goes on with the next epoch's first batches while this epoch's end is still in use
};

/// Makes batches on its own threads and hands them out in order. Buffers are recycled: prefetch + 1 batches exist, and a
/// steady state allocates nothing but what the source does. The result does not depend on threads or prefetch.
///
///     for (loader.start(epoch); Batch* batch = loader.next();) train(*batch);
template <class Batch>
class Loader {
 public:
  explicit Loader(BatchSource<Batch> source, LoaderOptions options = {})
      : source_(std::move(source)),
        options_(options),
        slots_(static_cast<std::size_t>(options.threads > 0 ? options.prefetch + 1 : 1)) {
    FROST_CHECK(options.threads >= 0 && options.prefetch >= 1 && source_.batches >= 0, "loader: wrong settings");
    for (int t = 0; t < options.threads; ++t) threads_.emplace_back([this] { work(); });
  }
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;
  ~Loader() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    threads_.clear();  // each ends after its current item
  }

  std::int64_t batches() const { return source_.batches; }

  /// Goes to the first batch of an epoch. Batches already made for this epoch are kept, others are discarded.
  void start(std::int64_t epoch) {
    std::unique_lock lock(mutex_);
    const std::int64_t first = epoch * source_.batches;
    if (!started_ || given_ != first) {
      draining_ = true;
      ready_.wait(lock, [&] { return busy_ == 0; });  // running items end, none is begun
      draining_ = false;
      for (Slot& slot : slots_) slot.reset();
      held_ = nullptr;
      opened_ = given_ = first;
    }
    started_ = true;
    end_ = first + source_.batches;
    last_ = options_.run_ahead ? INT64_MAX : end_;
    lock.unlock();
    wake_.notify_all();
  }

  /// The epoch's next batch, valid until the next call of next() or start(); null at the epoch's end. Rethrows what making
  /// it threw; the batches after it can still be had.
  Batch* next() {
    std::unique_lock lock(mutex_);
    FROST_CHECK(started_, "loader: next() before start()");
    if (held_ && !threads_.empty()) {
      held_->reset();
      wake_.notify_all();
    }
    held_ = nullptr;
    if (given_ == end_) return nullptr;
    Slot& slot = slot_of(given_);
    if (threads_.empty()) {
      lock.unlock();
      ++given_;
      make(slot.batch, given_ - 1);
      return &slot.batch;
    }
    ready_.wait(lock, [&] { return slot.state == State::kReady; });
    ++given_;
    held_ = &slot;
    if (slot.error) std::rethrow_exception(slot.error);
    return &slot.batch;
  }

 private:
  enum class State { kFree, kOpening, kOpen, kReady };
  struct Slot {
    Batch batch;
    State state = State::kFree;
    std::int64_t number = 0, items = 0, issued = 0, done = 0;
    std::exception_ptr error;
    void reset() {
      state = State::kFree;
      items = issued = done = 0;
      error = nullptr;
    }
  };

  // Batches are numbered through all epochs: number = epoch * batches + place.
  Slot& slot_of(std::int64_t number) {
    return slots_[static_cast<std::size_t>(number % static_cast<std::int64_t>(slots_.size()))];
  }
  std::int64_t epoch_of(std::int64_t number) const { return number / source_.batches; }
  std::int64_t place_of(std::int64_t number) const { return number % source_.batches; }

  void make(Batch& batch, std::int64_t number) {
    const std::int64_t items = source_.open(batch, epoch_of(number), place_of(number));
    for (std::int64_t i = 0; i < items; ++i) source_.item(batch, epoch_of(number), place_of(number), i);
    if (source_.close) source_.close(batch, epoch_of(number), place_of(number));
  }

  bool can_open() { return started_ && opened_ < last_ && source_.batches > 0 && slot_of(opened_).state == State::kFree; }
  Slot* oldest_with_work() {
    Slot* oldest = nullptr;
    for (Slot& slot : slots_)
      if (slot.state == State::kOpen && slot.issued < slot.items && (!oldest || slot.number < oldest->number))
        oldest = &slot;
    return oldest;
  }

  /// Runs a part without the lock; an exception becomes the slot's, and its items that are not begun yet are skipped.
  template <class Part>
  void run(std::unique_lock<std::mutex>& lock, Slot& slot, Part&& part) {
    ++busy_;
    lock.unlock();
    std::exception_ptr error;
    try {
      part();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    --busy_;
    if (error && !slot.error) slot.error = error;
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      Slot* slot = nullptr;
      wake_.wait(lock, [&] { return stop_ || (!draining_ && ((slot = oldest_with_work()) || can_open())); });
      if (stop_) return;
      if (slot) {
        const std::int64_t number = slot->number, item = slot->issued++;
        run(lock, *slot, [&] { source_.item(slot->batch, epoch_of(number), place_of(number), item); });
        ++slot->done;
      } else {
        const std::int64_t number = opened_++;
        slot = &slot_of(number);
        slot->state = State::kOpening;
        slot->number = number;
        std::int64_t items = 0;
        run(lock, *slot, [&] { items = source_.open(slot->batch, epoch_of(number), place_of(number)); });
        slot->items = items;
        slot->state = State::kOpen;
        wake_.notify_all();
      }
      if (slot->error) slot->items = slot->issued;
      if (slot->done == slot->items) {  // true for one thread only: the one that did the last part
        const std::int64_t number = slot->number;
        if (source_.close && !slot->error)
          run(lock, *slot, [&] { source_.close(slot->batch, epoch_of(number), place_of(number)); });
        slot->state = State::kReady;
      }
      ready_.notify_all();
    }
  }

  BatchSource<Batch> source_;
  LoaderOptions options_;
  std::vector<Slot> slots_;
  std::mutex mutex_;
  std::condition_variable wake_, ready_;  // for workers, for the consumer
  std::int64_t opened_ = 0, last_ = 0;    // batch numbers: the next to open, and where opening stops
  std::int64_t given_ = 0, end_ = 0;      // the next to hand out, and this epoch's end
  std::int64_t busy_ = 0;                 // parts that run now, without the lock
  bool started_ = false, draining_ = false, stop_ = false;
  Slot* held_ = nullptr;               // in use by the consumer
  std::vector<std::jthread> threads_;  // last: they end before what they use
};

}  // namespace frost
