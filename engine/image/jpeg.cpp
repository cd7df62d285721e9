#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE
#include <cstdlib>
#include <vector>

#include <jpeglib.h>  // after <cstdio>

#include "engine/image/formats.h"
#include "engine/image/jpeg_errors.h"
#include "kernels/error.h"

namespace frost::image::jpeg {
namespace {

/// A Huffman code has at least one bit, and each 8 x 8 block of a grey picture takes one.
constexpr std::uint64_t kPixelsPerByte = 512;

class Decoder {
 public:
  Decoder() { install(errors_); }
  ~Decoder() { jpeg_destroy_decompress(&codec_); }  // harmless on a zeroed struct
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// As far as the first scan.
  bool read_header(Bytes bytes) {
    codec_.err = &errors_;
    if (setjmp(errors_.jump)) return false;
    jpeg_create_decompress(&codec_);
    progress_.progress_monitor = [](j_common_ptr codec) {
      // A progressive file of a few kilobytes can need thousands of passes over a huge image; usual files need about ten.
      auto* self = reinterpret_cast<j_decompress_ptr>(codec);
      if (self->input_scan_number > 100) {
        auto* errors = static_cast<JpegErrors*>(codec->err);
        std::strcpy(errors->text, "more than 100 scans");
        std::longjmp(errors->jump, 1);
      }
    };
    codec_.progress = &progress_;
    jpeg_mem_src(&codec_, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&codec_, TRUE);
    return true;
  }
  bool start() {
    if (setjmp(errors_.jump)) return false;
    codec_.out_color_space = four_inks() ? JCS_CMYK : JCS_EXT_BGR;
    codec_.dct_method = JDCT_ISLOW;
    codec_.do_fancy_upsampling = TRUE;
    jpeg_start_decompress(&codec_);
    return true;
  }
  bool read_row(std::uint8_t* row) {
    if (setjmp(errors_.jump)) return false;
    JSAMPROW rows[1] = {row};
    return jpeg_read_scanlines(&codec_, rows, 1) == 1;
  }
  bool finish() {
    if (setjmp(errors_.jump)) return false;
    jpeg_finish_decompress(&codec_);
    return true;
  }
  bool four_inks() const { return codec_.num_components == 4; }
  int width() const { return static_cast<int>(codec_.output_width); }
  int height() const { return static_cast<int>(codec_.output_height); }
  bool warned() const { return errors_.num_warnings > 0; }
  std::string text() const { return errors_.text; }

 private:
  JpegErrors errors_;
  jpeg_progress_mgr progress_ = {};
  jpeg_decompress_struct codec_ = {};
};

/// Where the first scan's data begin, after all headers; 0 where none does.
struct Walk {
  Header header;
  std::size_t data_at = 0;
};

Walk walk(Bytes bytes) {
  Walk found{.header = {.state = Header::cut, .info = {.format = "jpeg"}}};
  Header& header = found.header;
  const ByteReader in{bytes};
  std::size_t at = 2;  // after the start-of-image marker
  bool exif_seen = false, frame_seen = false;
  const auto ends = [&](Header::State state) {
    header.state = state;
    return found;
  };
  while (true) {
    while (at < bytes.size() && bytes[at] != 0xff) ++at;  // stray bytes: libjpeg skips them too
    while (at < bytes.size() && bytes[at] == 0xff) ++at;  // fill bytes
    if (at >= bytes.size()) return ends(Header::cut);
    const unsigned marker = bytes[at++];
    if (marker == 0 || marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;  // no length follows
    if (marker == 0xd9) return ends(frame_seen ? Header::ok : Header::bad);
    if (bytes.size() - at < 2) return ends(Header::cut);
    const std::size_t length = in.u16(at);
    if (length < 2) return ends(Header::bad);
    if (bytes.size() - at < length) return ends(Header::cut);
    const Bytes body = bytes.subspan(at + 2, length - 2);
    if (marker == 0xda) {  // a scan
      if (!frame_seen) return ends(Header::bad);
      if (bytes.size() - at - length < 2) return ends(Header::cut);
      found.data_at = at + length;
      return ends(Header::ok);
    }
    using namespace std::string_view_literals;
    if (marker == 0xe1 && !exif_seen && starts_with(body, "Exif\0\0"sv)) {
      header.info.orientation = exif_orientation(body.subspan(6));
      exif_seen = true;
    }
    const bool frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame && !frame_seen) {
      if (body.size() < 6) return ends(Header::bad);
      header.info.height = static_cast<int>(in.u16(at + 3));
      header.info.width = static_cast<int>(in.u16(at + 5));
      if (marker <= 0xc7)  // Huffman; an arithmetic code can spend less than a bit
        header.least_bytes =
            static_cast<std::uint64_t>(header.info.width) * static_cast<std::uint64_t>(header.info.height) / kPixelsPerByte;
      frame_seen = true;
    }
    at += length;
  }
}

void check_data(Bytes bytes) {
  const std::size_t at = walk(bytes).data_at;
  FROST_CHECK(at > 0 && !(bytes[at] == 0xff && bytes[at + 1] == 0xd9), "the jpeg file has no picture data");
}

}  // namespace

Header read_header(Bytes bytes) { return walk(bytes).header; }

void check(Bytes bytes, std::string&) {
  check_data(bytes);
  Decoder decoder;
  FROST_CHECK(decoder.read_header(bytes), "cannot decode JPEG: ", decoder.text());
}

Image decode(Bytes bytes, std::string& corruption) {
  check_data(bytes);
  Decoder decoder;
  FROST_CHECK(decoder.read_header(bytes) && decoder.start(), "cannot decode JPEG: ", decoder.text());
  const ImageInfo info = read_header(bytes).info;
  FROST_CHECK(decoder.width() == info.width && decoder.height() == info.height, "cannot decode JPEG: contradictory sizes");
  Image image(decoder.height(), decoder.width());
  std::vector<std::uint8_t> inks(decoder.four_inks() ? static_cast<std::size_t>(image.width) * 4 : 0);
  for (int y = 0; y < image.height; ++y) {
    std::uint8_t* row = image.at(y, 0);
    FROST_CHECK(decoder.read_row(inks.empty() ? row : inks.data()), "cannot decode JPEG: ", decoder.text());
    for (std::size_t x = 0; x < inks.size() / 4; ++x) {  // Adobe's inverted CMYK: 255 is no ink
      const int black = inks[4 * x + 3];
      for (int c = 0; c < 3; ++c) {
        row[3 * x + static_cast<std::size_t>(2 - c)] =
            static_cast<std::uint8_t>(black - ((255 - inks[4 * x + static_cast<std::size_t>(c)]) * black >> 8));
      }
    }
  }
  if (!decoder.finish() || decoder.warned()) corruption = decoder.text();
  return image;
}

}  // namespace frost::image::jpeg
