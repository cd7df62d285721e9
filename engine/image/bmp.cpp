#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/image/formats.h"
#include "kernels/error.h"

namespace frost::image::bmp {
namespace {

enum Compression : std::uint32_t { plain = 0, rle8 = 1, rle4 = 2, bitfields = 3, alpha_bitfields = 6 };

/// What a file header and an info header of any age say.
struct Format {
  std::uint32_t header_bytes = 0, bits = 0, compression = plain, pixels_at = 0, colours = 0;
  std::int64_t width = 0, height = 0;
  bool top_down = false;

  bool old() const { return header_bytes == 12; }  // OS/2 1.x
  bool runs() const { return compression == rle8 || compression == rle4; }
  std::uint64_t row_bytes() const { return (static_cast<std::uint64_t>(width) * bits + 7) / 8; }
  std::uint64_t stride() const { return (row_bytes() + 3) / 4 * 4; }
  std::size_t palette_at() const {
    return 14 + std::size_t{header_bytes} +
           (header_bytes == 40 && compression == bitfields         ? 12
            : header_bytes == 40 && compression == alpha_bitfields ? 16
                                                                   : 0);
  }
};

Format format_of(Bytes bytes) {
  const ByteReader in{bytes, false};
  Format f{.header_bytes = in.u32(14), .pixels_at = in.u32(10)};
  if (f.old()) {
    f.width = in.u16(18), f.height = in.u16(20), f.bits = in.u16(24);
  } else {
    const auto height = static_cast<std::int32_t>(in.u32(22));  // negative: rows run from top to bottom
    f.width = static_cast<std::int32_t>(in.u32(18));
    f.height = std::abs(static_cast<std::int64_t>(height));
    f.top_down = height < 0;
    f.bits = in.u16(28);
    if (f.header_bytes >= 20) f.compression = in.u32(30);
    if (f.header_bytes >= 36) f.colours = in.u32(46);
  }
  return f;
}

void check_kind(const Format& f) {
  const bool masks = f.compression == bitfields || f.compression == alpha_bitfields;
  const bool os2 = f.header_bytes > 12 && f.header_bytes < 40;
  FROST_CHECK(!(f.header_bytes == 64 && f.compression > rle4), "bmp files of OS/2 kind ", f.compression, " are not read");
  FROST_CHECK(f.compression <= bitfields || f.compression == alpha_bitfields, "bmp files with ",
              f.compression == 4   ? "JPEG data"
              : f.compression == 5 ? "PNG data"
                                   : "compression " + std::to_string(f.compression),
              " are not read");
  const bool indexed = f.bits == 1 || f.bits == 2 || f.bits == 4 || f.bits == 8;
  const bool direct = f.bits == 16 || f.bits == 24 || f.bits == 32;
  const bool right = f.compression == rle8   ? f.bits == 8 && !f.top_down
                     : f.compression == rle4 ? f.bits == 4 && !f.top_down
                     : masks                 ? (f.bits == 16 || f.bits == 32) && !os2
                                             : indexed || direct;
  FROST_CHECK(right, "bmp files of ", f.bits, " bits with compression ", f.compression, " are not read");
}

/// A colour's part of a 16 or 32-bit pixel.
struct Mask {
  std::uint32_t bits = 0;
  int shift = 0, count = 0;
  bool spread = false;
  Mask() = default;
  Mask(std::uint32_t mask, std::uint32_t pixel_bits)
      : bits(mask), shift(mask ? std::countr_zero(mask) : 0), count(std::popcount(mask)), spread(pixel_bits == 32) {}
  /// As 8 bits: of more the upper ones. Fewer are the upper ones of the byte in a 16-bit pixel (31 of 31 is 248, as in
  /// OpenCV), and spread over 0..255 in a 32-bit one.
  std::uint8_t of(std::uint32_t pixel) const {
    const std::uint32_t value = (pixel & bits) >> shift;
    if (count >= 8) return static_cast<std::uint8_t>(value >> (count - 8));
    if (!spread || count == 0) return static_cast<std::uint8_t>(value << (8 - count));
    return static_cast<std::uint8_t>(value * 255 / ((1u << count) - 1));
  }
};

class Reader {
 public:
  Reader(Bytes bytes, Image* image) : bytes_(bytes), format_(format_of(bytes)), image_(image) {
    check_kind(format_);
    read_palette();
    if (format_.bits == 16) set_masks(0x7c00, 0x3e0, 0x1f);
    if (format_.bits == 32) set_masks(0xff0000, 0xff00, 0xff);
    if (format_.compression == bitfields || format_.compression == alpha_bitfields) {
      const ByteReader in{bytes, false};  // in a long header, and after a short one, at the same place
      set_masks(in.u32(54), in.u32(58), in.u32(62));
    }
    FROST_CHECK(format_.pixels_at < bytes.size(), "the bmp file is cut off");
  }

  void read() {
    if (format_.runs())
      read_runs();
    else
      read_plain();
  }

 private:
  void read_palette() {
    if (format_.bits > 8) return;
    const std::size_t most = std::size_t{1} << format_.bits, entry = format_.old() ? 3 : 4, at = format_.palette_at();
    // A palette may be left short; it never reaches into the pixels.
    const std::size_t room = format_.pixels_at > at ? (format_.pixels_at - at) / entry : 0;
    const std::size_t wanted = format_.colours ? std::min<std::size_t>(format_.colours, most) : most;
    for (std::size_t i = 0; i < std::min(wanted, room); ++i)
      for (std::size_t c = 0; c < 3; ++c)
        palette_[i][c] = static_cast<std::uint8_t>(ByteReader{bytes_, false}.u8(at + i * entry + c));
  }
  void set_masks(std::uint32_t red, std::uint32_t green, std::uint32_t blue) {
    masks_ = {Mask(blue, format_.bits), Mask(green, format_.bits), Mask(red, format_.bits)};
  }
  void put(std::int64_t x, std::int64_t row, std::uint32_t index) {
    if (!image_ || x >= format_.width || row >= format_.height) return;
    const std::int64_t y = format_.top_down ? row : format_.height - 1 - row;
    std::copy_n(palette_[index].data(), 3, image_->at(static_cast<int>(y), static_cast<int>(x)));
  }

  void read_plain() {
    const std::uint64_t needed = format_.stride() * static_cast<std::uint64_t>(format_.height - 1) + format_.row_bytes();
    FROST_CHECK(bytes_.size() - format_.pixels_at >= needed, "the bmp file is cut off");  // the last row's padding may lack
    if (!image_) return;
    for (std::int64_t row = 0; row < format_.height; ++row) {
      const Bytes from = bytes_.subspan(format_.pixels_at + static_cast<std::size_t>(row) * format_.stride(),
                                        static_cast<std::size_t>(format_.row_bytes()));
      if (format_.bits <= 8) {
        const std::uint32_t bits = format_.bits, most = (1u << bits) - 1;
        for (std::uint32_t x = 0; x < format_.width; ++x)
          put(x, row, from[x * bits / 8] >> (8 - bits - x * bits % 8) & most);
        continue;
      }
      const std::int64_t y = format_.top_down ? row : format_.height - 1 - row;
      std::uint8_t* out = image_->at(static_cast<int>(y), 0);
      if (format_.bits == 24) {
        std::copy(from.begin(), from.end(), out);
        continue;
      }
      const ByteReader in{from, false};
      for (std::size_t x = 0; x < static_cast<std::size_t>(format_.width); ++x) {
        const std::uint32_t pixel = format_.bits == 16 ? in.u16(2 * x) : in.u32(4 * x);
        for (std::size_t c = 0; c < 3; ++c) out[3 * x + c] = masks_[c].of(pixel);
      }
    }
  }

  /// Pairs of bytes: a count and a colour (RLE4: two in turn); or 0 and a command. Pixels that are jumped over have the
  /// first colour.
  void read_runs() {
    if (image_)
      for (std::int64_t row = 0; row < format_.height; ++row)
        for (std::int64_t x = 0; x < format_.width; ++x) put(x, row, 0);
    const ByteReader in{bytes_, false};
    const bool half = format_.bits == 4;  // two pixels in a byte, the upper first
    const auto index = [&](std::uint32_t byte, std::uint32_t i) {
      return !half ? byte : i % 2 == 0 ? byte >> 4 : byte & 15;
    };
    std::int64_t x = 0, row = 0;
    std::size_t at = format_.pixels_at;
    while (row < format_.height) {
      if (row == format_.height - 1 && x >= format_.width) return;  // complete, whether or not an end is marked
      FROST_CHECK(bytes_.size() - at >= 2, "the bmp file is cut off");
      const std::uint32_t count = in.u8(at), value = in.u8(at + 1);
      at += 2;
      if (count > 0) {
        for (std::uint32_t i = 0; i < count; ++i) put(x++, row, index(value, i));
      } else if (value == 0) {  // end of the row
        x = 0, ++row;
      } else if (value == 1) {  // end of the picture
        return;
      } else if (value == 2) {  // a jump
        FROST_CHECK(bytes_.size() - at >= 2, "the bmp file is cut off");
        x += in.u8(at), row += in.u8(at + 1);
        at += 2;
      } else {  // so many pixels one by one, padded to 16 bits
        const std::size_t size = half ? (value + 1) / 2 : value;
        FROST_CHECK(bytes_.size() - at >= size, "the bmp file is cut off");
        for (std::uint32_t i = 0; i < value; ++i) put(x++, row, index(in.u8(at + (half ? i / 2 : i)), i));
        at = std::min(at + size + size % 2, bytes_.size());
      }
    }
  }

  Bytes bytes_;
  Format format_;
  Image* image_;
  std::array<std::array<std::uint8_t, 3>, 256> palette_{};
  std::array<Mask, 3> masks_{};  // B G R
};

}  // namespace

Header read_header(Bytes bytes) {
  Header header{.state = Header::cut, .info = {.format = "bmp"}};
  if (bytes.size() < 26) return header;
  const Format f = format_of(bytes);
  if (!f.old() && bytes.size() < 14 + std::min<std::size_t>(f.header_bytes, 40)) return header;
  header.state = Header::bad;
  if (!f.old() && (f.header_bytes < 16 || f.header_bytes > 256)) return header;
  if (f.width <= 0 || f.height <= 0 || f.height > INT32_MAX) return header;
  header.state = Header::ok;
  header.info.width = static_cast<int>(f.width);
  header.info.height = static_cast<int>(f.height);
  return header;
}

void check(Bytes bytes, std::string&) { Reader(bytes, nullptr).read(); }

Image decode(Bytes bytes, std::string&) {
  const Format f = format_of(bytes);
  Reader(bytes, nullptr).read();  // before memory is taken
  Image image(static_cast<int>(f.height), static_cast<int>(f.width));
  Reader(bytes, &image).read();
  return image;
}

}  // namespace frost::image::bmp
