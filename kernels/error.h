#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace frost {

/// A mistake of the user or of the machine (bad file, bad flag, full disk): one clear line, shown by the tool's main.
/// Our own bugs are asserts, not Errors.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {
template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}
}  // namespace detail

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(detail::join(parts...));
}

}  // namespace frost

/// Throws frost::Error with the joined parts: FROST_CHECK(a == b, "conv2d: x has ", a, " channels, weight expects ", b).
#define FROST_CHECK(condition, ...)               \
  do {                                            \
    if (!(condition)) ::frost::fail(__VA_ARGS__); \
  } while (0)
