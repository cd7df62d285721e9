#include "engine/report/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace frost {

std::string progress_line(const std::string& label, std::int64_t done, std::int64_t total, double seconds) {
  static constexpr std::array<const char*, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  constexpr std::int64_t kCells = 10;
  const std::int64_t eighths = total > 0 ? std::clamp<std::int64_t>(done * kCells * 8 / total, 0, kCells * 8) : kCells * 8;
  std::string bar;
  for (std::int64_t i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kEighths[static_cast<std::size_t>(eighths % 8)];
  bar.append(static_cast<std::size_t>(kCells - (eighths + 7) / 8), ' ');
  const auto s = static_cast<std::int64_t>(seconds);
  const std::string elapsed =
      s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60) : fmt::format("{:02}:{:02}", s / 60, s % 60);
  const double percent = total > 0 ? 100.0 * static_cast<double>(done) / static_cast<double>(total) : 100.0;
  return fmt::format("{}: {:3.0f}%|{}| {}/{} {}", label, percent, bar, done, total, elapsed);
}

ProgressBar::ProgressBar(std::string label, std::int64_t total, std::FILE* out, bool visible)
    : label_(std::move(label)),
      total_(total),
      out_(out),
      visible_(visible),
      terminal_(isatty(fileno(out)) == 1),
      start_(Clock::now()),
      last_draw_(start_) {
  if (visible_ && terminal_) draw(false);
}

ProgressBar::~ProgressBar() {
  if (!finished_ && drawn_) std::fputc('\n', out_);
}

void ProgressBar::advance(std::int64_t steps) {
  done_ += steps;
  if (!visible_ || !terminal_ || finished_ || Clock::now() - last_draw_ < std::chrono::milliseconds(100)) return;
  draw(false);
}

void ProgressBar::finish() {
  if (visible_ && !finished_) draw(true);
  finished_ = true;
}

void ProgressBar::draw(bool last) {
  last_draw_ = Clock::now();
  const std::string line = progress_line(label_, done_, total_, std::chrono::duration<double>(last_draw_ - start_).count());
  // "erase to the end of the line" keeps a shorter label from leaving the tail of a longer one
  fmt::print(out_, "{}{}{}", terminal_ ? "\r" : "", line, last ? "\n" : "\x1b[K");
  std::fflush(out_);
  drawn_ = true;
}

}  // namespace frost
