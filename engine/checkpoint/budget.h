#pragma once
#include <cstdint>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/error.h"

namespace frost {

/// What reading one file may cost. Limits for single items do not bound their sum: a small file can name one large thing
/// many times. So everything that is made while a file is read counts against one budget in bytes: 256 MiB plus eight times
/// the file's size. Work that makes nothing (searching a map) counts like the memory it reads.
class Budget {
 public:
  explicit Budget(std::uint64_t file_bytes) : file_(file_bytes), left_(kFree + kFactor * file_bytes) {}

  /// Pays for `bytes`. Throws Error, without the file's name, where they are not left; `what` says what they are for.
  void spend(std::uint64_t bytes, std::string_view what) {
    if (bytes > left_)
      fail("asks for more than ", (kFree + kFactor * file_) >> 20, " MiB, the bound for a file of ", file_, " bytes (", what,
           ")");
    left_ -= bytes;
  }

 private:
  static constexpr std::uint64_t kFree = std::uint64_t{256} << 20, kFactor = 8;
  std::uint64_t file_, left_;
};

/// The longest name of a module or tensor, dots included. A longer one is refused.
inline constexpr std::size_t kMaxName = 4096;

/// A text of the file for an error: cut where it is long.
inline std::string shortened(std::string_view text) {
  constexpr std::size_t kMost = 120;
  return text.size() <= kMost ? std::string(text) : std::string(text.substr(0, kMost)) + "...";
}

/// Calls `read`, which reads `path`; every Error names it, also where memory runs out.
template <class Read>
auto reading(const std::filesystem::path& path, Read&& read) {
  constexpr const char* kCause = ": out of memory while it is read";
  try {
    return std::forward<Read>(read)();
  } catch (const Error& error) {
    const std::string_view what = error.what();
    if (what.starts_with(path.string())) throw;
    fail(path.string(), ": ", what);
  } catch (const std::bad_alloc&) {
    fail(path.string(), kCause);
  } catch (const std::length_error&) {  // a container's own limit
    fail(path.string(), kCause);
  }
}

}  // namespace frost
