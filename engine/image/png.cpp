#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "engine/image/formats.h"
#include "kernels/error.h"

namespace frost::image::png {
namespace {

constexpr std::size_t kFirstChunk = 8, kFrame = 12;  // a chunk: length, type, body, checksum
constexpr std::uint64_t kDeflateRatio = 1032;        // deflate makes no more bytes of one
enum Colour { grey = 0, rgb = 2, indexed = 3, grey_alpha = 4, rgb_alpha = 6 };

struct Format {
  std::uint32_t width = 0, height = 0, bits = 0, colour = 0, interlaced = 0;

  std::uint32_t channels() const { return colour == rgb ? 3 : colour == grey_alpha ? 2 : colour == rgb_alpha ? 4 : 1; }
  bool known() const {
    const bool small = bits == 1 || bits == 2 || bits == 4, large = bits == 8 || bits == 16;
    return (colour == grey && (small || large)) || (colour == indexed && (small || bits == 8)) ||
           ((colour == rgb || colour == grey_alpha || colour == rgb_alpha) && large);
  }
};

Format format_of(Bytes bytes) {
  const ByteReader in{bytes};
  return {.width = in.u32(16), .height = in.u32(20), .bits = in.u8(24), .colour = in.u8(25), .interlaced = in.u8(28)};
}

/// libpng reports errors by a callback that must not return: it jumps back into the function that called libpng. Those
/// functions own nothing that needs a destructor.
class Decoder {
 public:
  explicit Decoder(Bytes bytes) : bytes_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, [](png_structp, png_const_charp) {});
    if (png_) info_ = png_create_info_struct(png_);
    if (!info_) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
  }
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// As far as the pixels, which will come as B G R. Of 16 bits the upper 8 count, alpha is dropped.
  bool start() {
    if (setjmp(jump_)) return false;
    png_set_read_fn(png_, this, read);
    png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);  // a flipped bit anywhere: a corrupt file
    png_set_user_limits(png_, kLongestSide, kLongestSide);
    // Texts and profiles can unpack to a thousand times their bytes, and they are not used here.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png_, info_);
    png_set_strip_16(png_);
    png_set_palette_to_rgb(png_);
    if (png_get_bit_depth(png_, info_) < 8) png_set_expand_gray_1_2_4_to_8(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
    png_set_bgr(png_);
    passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }
  int passes() const { return passes_; }
  /// The next row of a pass. An interlaced picture's rows are filled up pass by pass.
  bool read_row(std::uint8_t* row) {
    if (setjmp(jump_)) return false;
    png_read_row(png_, row, nullptr);
    return true;
  }
  /// The data after the pixels, up to the end marker.
  bool finish() {
    if (setjmp(jump_)) return false;
    png_read_end(png_, nullptr);
    return true;
  }
  std::string cause() const {
    if (cut_) return "the png file is cut off";
    const bool sum = std::string_view(text_).ends_with("CRC error");
    return std::string("the png file is corrupt (") + (sum ? "checksum of a chunk" : text_) + ")";
  }

 private:
  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<Decoder*>(png_get_error_ptr(png));
    std::snprintf(self->text_, sizeof self->text_, "%s", text);
    std::longjmp(self->jump_, 1);
  }
  static void read(png_structp png, png_bytep to, std::size_t count) {
    auto* self = static_cast<Decoder*>(png_get_io_ptr(png));
    if (self->bytes_.size() - self->at_ < count) {
      self->cut_ = true;
      png_error(png, "");
    }
    std::memcpy(to, self->bytes_.data() + self->at_, count);
    self->at_ += count;
  }

  Bytes bytes_;
  std::size_t at_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  int passes_ = 0;
  bool cut_ = false;
  char text_[128] = {};
  std::jmp_buf jump_;
};

/// Reads all rows; with `image` null only to find errors.
void read_rows(Bytes bytes, Image* image) {
  const Format f = format_of(bytes);
  Decoder decoder(bytes);
  FROST_CHECK(decoder.start(), decoder.cause());
  std::vector<std::uint8_t> row(image ? 0 : std::size_t{f.width} * 3);
  for (int pass = 0; pass < decoder.passes(); ++pass)
    for (int y = 0; y < static_cast<int>(f.height); ++y)
      FROST_CHECK(decoder.read_row(image ? image->at(y, 0) : row.data()), decoder.cause());
  FROST_CHECK(decoder.finish(), decoder.cause());
}

}  // namespace

Header read_header(Bytes bytes) {
  Header header{.state = Header::cut, .info = {.format = "png"}};
  const ByteReader in{bytes};
  bool exif_seen = false, data_seen = false;
  for (std::size_t at = kFirstChunk;;) {
    if (bytes.size() - at < 8) return header;
    const std::size_t length = in.u32(at);
    const Bytes type = bytes.subspan(at + 4, 4);
    const bool first = at == kFirstChunk;
    if (!data_seen) header.state = Header::bad;
    if (first && (!starts_with(type, "IHDR") || length != 13)) return header;
    if (starts_with(type, "IEND")) return header;
    data_seen = data_seen || starts_with(type, "IDAT");  // from here on the orientation alone is looked for
    header.state = data_seen ? Header::ok : Header::cut;
    if (bytes.size() - at - 8 < length + 4) return header;
    if (first) {
      const Format f = format_of(bytes);
      header.state = Header::bad;
      if (!f.known() || f.interlaced > 1 || in.u8(26) != 0 || in.u8(27) != 0) return header;
      header.state = Header::cut;
      header.info.width = static_cast<int>(std::min<std::uint32_t>(f.width, 0x7fffffff));
      header.info.height = static_cast<int>(std::min<std::uint32_t>(f.height, 0x7fffffff));
      // In double: sides up to 2^32 would overflow. They are refused for themselves.
      header.least_bytes = static_cast<std::uint64_t>(static_cast<double>(f.width) * f.height * f.bits * f.channels() / 8 /
                                                      static_cast<double>(kDeflateRatio));
    }
    if (starts_with(type, "eXIf") && !exif_seen) {
      header.info.orientation = exif_orientation(bytes.subspan(at + 8, length));
      exif_seen = true;
    }
    at += kFrame + length;
  }
}

void check(Bytes bytes, std::string&) { read_rows(bytes, nullptr); }

Image decode(Bytes bytes, std::string&) {
  const Format f = format_of(bytes);
  Image image(static_cast<int>(f.height), static_cast<int>(f.width));
  read_rows(bytes, &image);
  return image;
}

}  // namespace frost::image::png
