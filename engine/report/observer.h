#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace frost {

/// The progress of an epoch after a batch.
struct EpochProgress {
  std::int64_t epoch = 0, epochs = 0;    // from 0; all
  double gigabytes = 0;                  // the most so far
  const std::vector<double>& losses;     // means over the epoch's batches, by TrainingTask::loss_names
  std::int64_t instances = 0, size = 0;  // of the batch
};

/// The results of an epoch, by the columns of results.csv.
struct EpochResult {
  std::int64_t epoch = 0;
  const std::vector<std::string>& columns;
  const std::vector<double>& values;
};

/// Receives the events of a run. Code below the tools does not print; derive from this class to see them. All functions are
/// called from the run's thread, and by default do nothing.
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

/// Ignores everything.
inline Observer& silence() {
  static Observer silent;
  return silent;
}

/// Reports a piece of work to the observer; its end is reported also after an exception.
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
