#pragma once
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace frost {

/// Faults found when a data set's files were decoded. Each file is reported once. One that cannot be decoded is not tried
/// again. Thread-safe.
class ImageFaults {
 public:
  explicit ImageFaults(std::int64_t files)
      : told_(static_cast<std::size_t>(files)), unreadable_(static_cast<std::size_t>(files)) {}

  /// `file` was decoded, with a warning.
  void warn(std::int64_t file, std::string text) { note(told_, file, std::move(text)); }
  /// `file` cannot be decoded.
  void give_up(std::int64_t file, std::string text) {
    const std::lock_guard lock(mutex_);
    if (!unreadable_[static_cast<std::size_t>(file)] && first_cause_.empty()) first_cause_ = text;
    add(unreadable_, file, std::move(text));
  }
  bool unreadable(std::int64_t file) const {
    const std::lock_guard lock(mutex_);
    return unreadable_[static_cast<std::size_t>(file)];
  }
  /// Of the first file that cannot be decoded; empty: none.
  std::string first_cause() const {
    const std::lock_guard lock(mutex_);
    return first_cause_;
  }
  /// Files and causes since the last call, one line each.
  std::vector<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(lines_, {});
  }

 private:
  void note(std::vector<bool>& seen, std::int64_t file, std::string text) {
    const std::lock_guard lock(mutex_);
    add(seen, file, std::move(text));
  }
  void add(std::vector<bool>& seen, std::int64_t file, std::string text) {
    if (!seen[static_cast<std::size_t>(file)]) lines_.push_back(std::move(text));
    seen[static_cast<std::size_t>(file)] = true;
  }

  mutable std::mutex mutex_;
  std::vector<bool> told_, unreadable_;
  std::vector<std::string> lines_;
  std::string first_cause_;
};

}  // namespace frost
