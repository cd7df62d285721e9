#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace frost {

/// Length of the valid UTF-8 sequence at the front, 0 if there is none. `code` gets the character.
inline std::size_t utf8_character(std::string_view text, std::uint32_t& code) {
  const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = at(0);
  std::size_t length = 0;  // the leads 0x80 to 0xC1 and from 0xF5 on begin nothing
  if (lead < 0x80)
    length = 1;
  else if (lead >= 0xC2 && lead < 0xE0)
    length = 2;
  else if (lead >= 0xE0 && lead < 0xF0)
    length = 3;
  else if (lead >= 0xF0 && lead < 0xF5)
    length = 4;
  if (length == 0 || length > text.size()) return 0;
  code = length == 1 ? lead : lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (at(i) & 0x3Fu);
  }
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  return (length == 3 && (code < 0x800 || surrogate)) || (length == 4 && (code < 0x10000 || code > 0x10FFFF)) ? 0 : length;
}

inline bool valid_utf8(std::string_view text) {
  for (std::uint32_t code; !text.empty();) {
    const std::size_t length = utf8_character(text, code);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace frost
