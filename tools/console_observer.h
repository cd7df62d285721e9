#pragma once
#include <optional>

#include "engine/report/observer.h"
#include "engine/report/progress.h"

namespace frost {

/// Prints a run's events to the terminal: notices on stdout, warnings and progress bars on stderr.
class ConsoleObserver final : public Observer {
 public:
  void notice(const std::string& text) override {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }
  void warning(const std::string& text) override { std::fputs(text.c_str(), stderr); }
  void progress_began(const std::string& label, std::int64_t total) override {
    bar_.emplace(label, total);
    done_ = 0;
  }
  void progress(const std::string& label, std::int64_t done) override {
    bar_->label(label);
    bar_->advance(done - done_);
    done_ = done;
  }
  void progress_ended(bool finished) override {
    if (finished) bar_->finish();
    bar_.reset();
  }

 private:
  std::optional<ProgressBar> bar_;
  std::int64_t done_ = 0;
};

}  // namespace frost
