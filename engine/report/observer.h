#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace frost {

/// Where an epoch stands after a batch.
struct EpochProgress {
  std::int64_t epoch = 0, epochs = 0;    // from 0; all
  double gigabytes = 0;                  // the most so far
  const std::vector<double>& losses;     // means over the epoch's batches, by TrainingTask::loss_names
  std::int64_t instances = 0, size = 0;  // of the batch
};

/// What an epoch came to, by the columns of results.csv.
struct EpochResult {
  std::int64_t epoch = 0;
  const std::vector<std::string>& columns;
  const std::vector<double>& values;
};

/// Hears what a run does. Nothing below the tools prints: whoever wants to see something derives from this. All is called
/// from the thread that runs; every function does nothing unless it is overridden.
class Observer {
 public:
  virtual ~Observer() = default;
  /// Text for a person, whole lines. A warning is about something that is wrong.
  virtual void notice(const std::string& /*text*/) {}
  virtual void warning(const std::string& /*text*/) {}
  /// A piece of work with `total` steps begins; `done` of them are done; it ends, with the last step or without it.
  virtual void progress_began(const std::string& /*label*/, std::int64_t /*total*/) {}
  virtual void progress(const std::string& /*label*/, std::int64_t /*done*/) {}
  virtual void progress_ended(bool /*finished*/) {}
  /// A training: after each batch, each epoch, each file that was written.
  virtual void batch_done(const EpochProgress&) {}
  virtual void epoch_done(const EpochResult&) {}
  virtual void checkpoint_saved(const std::string& /*file*/) {}
};

/// Hears nothing.
inline Observer& silence() {
  static Observer silent;
  return silent;
}

/// A piece of work as the observer hears of it; one that an exception ends is ended too.
class Progress {
 public:
  Progress(Observer& observer, std::string label, std::int64_t total) : observer_(observer), label_(std::move(label)) {
    observer_.progress_began(label_, total);
  }
  ~Progress() {
    if (!finished_) observer_.progress_ended(false);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void label(std::string text) { label_ = std::move(text); }
  void advance(std::int64_t steps = 1) { observer_.progress(label_, done_ += steps); }
  void finish() {
    if (!std::exchange(finished_, true)) observer_.progress_ended(true);
  }

 private:
  Observer& observer_;
  std::string label_;
  std::int64_t done_ = 0;
  bool finished_ = false;
};

}  // namespace frost
