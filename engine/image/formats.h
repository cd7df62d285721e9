#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/image/image.h"

/// The readers of single formats behind codec.h. They throw Error with the cause alone; codec.cpp puts the file's name
/// before it.
namespace frost::image {

using Bytes = std::span<const std::uint8_t>;

/// Bounds-checked integers of either byte order; outside the data they are 0, and callers check lengths first.
struct ByteReader {
  Bytes bytes;
  bool big_endian = true;
  std::uint32_t u8(std::size_t at) const { return at < bytes.size() ? bytes[at] : 0; }
  std::uint32_t u16(std::size_t at) const { return big_endian ? u8(at) << 8 | u8(at + 1) : u8(at + 1) << 8 | u8(at); }
  std::uint32_t u32(std::size_t at) const { return big_endian ? u16(at) << 16 | u16(at + 2) : u16(at + 2) << 16 | u16(at); }
};

inline bool starts_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

/// The data before the pixels.
struct Header {
  enum State { ok, cut, bad } state = bad;
  ImageInfo info{};
  std::uint64_t least_bytes = 0;  // no complete file with this size and kind of pixels is shorter
};

/// Orientation 1..8 from a TIFF block as EXIF holds it; 1 where there is none or it makes no sense.
int exif_orientation(Bytes tiff);

/// Each format has three functions.
///   read_header: of a file, or of its beginning; state `cut` where more of the file is needed.
///   check: throws what decode() would throw, without making the picture. Whole files.
///   decode: the pixels as they are stored, not turned. Whole files, of which the header was found plausible.
/// `corruption` says what is wrong with a picture that is kept all the same, and is left as it is where nothing is.
namespace jpeg {
Header read_header(Bytes bytes);
/// Of a file or its beginning, as far as the first scan.
void check(Bytes bytes, std::string& corruption);
Image decode(Bytes bytes, std::string& corruption);
}  // namespace jpeg
namespace png {
Header read_header(Bytes bytes);
void check(Bytes bytes, std::string& corruption);
Image decode(Bytes bytes, std::string& corruption);
}  // namespace png
namespace bmp {
Header read_header(Bytes bytes);
void check(Bytes bytes, std::string& corruption);
Image decode(Bytes bytes, std::string& corruption);
}  // namespace bmp
namespace webp {
Header read_header(Bytes bytes);
void check(Bytes bytes, std::string& corruption);
Image decode(Bytes bytes, std::string& corruption);
/// quality 1..100. Empty on failure: a side of more than 16383 pixels.
std::vector<std::uint8_t> encode(const Image& image, float quality);
}  // namespace webp
/// Whole files only: a directory may come after the pixels.
namespace tiff {
Header read_header(Bytes bytes);
void check(Bytes bytes, std::string& corruption);
Image decode(Bytes bytes, std::string& corruption);
/// One uncompressed strip.
std::vector<std::uint8_t> encode(const Image& image);
}  // namespace tiff

}  // namespace frost::image
