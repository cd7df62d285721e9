#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace frost {

/// `<label>:  40%|████      | 2/5 00:03`. On a terminal the line is redrawn in place (at most ten times a second); elsewhere
/// only the finished line is written, so that a log stays readable.
std::string progress_line(const std::string& label, std::int64_t done, std::int64_t total, double seconds);

class ProgressBar {
 public:
  /// Writes to `out`; draws itself if that is a terminal. `visible` false: silent (the other processes of a group).
  ProgressBar(std::string label, std::int64_t total, std::FILE* out = stderr, bool visible = true);
  ~ProgressBar();  // an unfinished line is ended, so that an error message starts on a fresh one
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void label(std::string text) { label_ = std::move(text); }
  void advance(std::int64_t steps = 1);
  /// Writes the final line; later calls do nothing.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(bool last);

  std::string label_;
  std::int64_t done_ = 0, total_;
  std::FILE* out_;
  bool visible_, terminal_, drawn_ = false, finished_ = false;
  Clock::time_point start_, last_draw_;
};

}  // namespace frost
