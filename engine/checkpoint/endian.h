#pragma once
#include <bit>
#include <cstddef>
#include <cstring>

namespace frost {

/// The value whose bytes, little end first, begin at `data`: files are not aligned.
template <class T>
T little(const std::byte* data) {
  static_assert(std::endian::native == std::endian::little);
  T value;
  std::memcpy(&value, data, sizeof(T));
  return value;
}

}  // namespace frost
