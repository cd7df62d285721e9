#include "engine/image/codec.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>

#include <jpeglib.h>  // after <cstdio>

#include "engine/base/atomic_file.h"
#include "engine/image/color.h"
#include "engine/image/stb.h"
#include "kernels/error.h"

namespace frost {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const std::uint8_t>;

std::string reason() { return errno ? std::strerror(errno) : "unknown cause"; }

/// The first `most` bytes of a file, or all.
std::vector<std::uint8_t> read_file(const fs::path& path, std::size_t most = static_cast<std::size_t>(-1)) {
  std::error_code error;
  FROST_CHECK(!fs::is_directory(path, error), path.string(), ": is a folder, not an image");
  errno = 0;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  FROST_CHECK(in, path.string(), ": cannot open: ", reason());
  const std::streamoff size = in.tellg();
  FROST_CHECK(size >= 0, path.string(), ": cannot read: ", reason());
  std::vector<std::uint8_t> bytes(std::min(static_cast<std::size_t>(size), most));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  FROST_CHECK(static_cast<std::size_t>(in.gcount()) == bytes.size(), path.string(), ": cannot read: ", reason());
  return bytes;
}

/// Bounds-checked integers of either byte order; outside the data they are 0, and callers check lengths first.
struct Reader {
  Bytes bytes;
  bool big_endian = true;
  std::uint32_t u8(std::size_t at) const { return at < bytes.size() ? bytes[at] : 0; }
  std::uint32_t u16(std::size_t at) const { return big_endian ? u8(at) << 8 | u8(at + 1) : u8(at + 1) << 8 | u8(at); }
  std::uint32_t u32(std::size_t at) const { return big_endian ? u16(at) << 16 | u16(at + 2) : u16(at + 2) << 16 | u16(at); }
};

bool starts_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

std::string format_of(Bytes bytes) {
  using namespace std::string_view_literals;
  if (starts_with(bytes, "\xff\xd8\xff"sv)) return "jpeg";
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n"sv)) return "png";
  if (starts_with(bytes, "BM"sv)) return "bmp";
  if (starts_with(bytes, "GIF8"sv)) return "gif";
  if (starts_with(bytes, "II*\0"sv) || starts_with(bytes, "MM\0*"sv)) return "tiff";
  if (starts_with(bytes, "RIFF"sv) && bytes.size() > 12 && starts_with(bytes.subspan(8), "WEBP"sv)) return "webp";
  if (starts_with(bytes, "PF\n"sv) || starts_with(bytes, "Pf\n"sv)) return "pfm";
  return {};
}

/// Orientation 1..8 from a TIFF block as EXIF holds it; 1 where there is none or it makes no sense.
int tiff_orientation(Bytes tiff) {
  if (tiff.size() < 8) return 1;
  const bool little = tiff[0] == 'I' && tiff[1] == 'I';
  if (!little && !(tiff[0] == 'M' && tiff[1] == 'M')) return 1;
  const Reader in{tiff, !little};
  if (in.u16(2) != 42) return 1;
  const std::size_t directory = in.u32(4);
  if (directory > tiff.size() || tiff.size() - directory < 2) return 1;
  const std::size_t entries = in.u16(directory);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.size()) return 1;
    if (in.u16(entry) != 0x0112) continue;
    const auto value = in.u16(entry + 8);
    return in.u16(entry + 2) == 3 && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;  // type 3: 16 bits
  }
  return 1;
}

enum class Header { ok, cut, bad };

Header jpeg_header(Bytes bytes, ImageInfo& info) {
  const Reader in{bytes};
  std::size_t at = 2;  // behind the start-of-image marker
  bool exif_seen = false;
  while (true) {
    while (at < bytes.size() && bytes[at] != 0xff) ++at;  // stray bytes: libjpeg skips them too
    while (at < bytes.size() && bytes[at] == 0xff) ++at;  // fill bytes
    if (at >= bytes.size()) return Header::cut;
    const unsigned marker = bytes[at++];
    if (marker == 0 || marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;  // no length follows
    if (marker == 0xd9 || marker == 0xda) return Header::bad;                           // data before any frame header
    if (bytes.size() - at < 2) return Header::cut;
    const std::size_t length = in.u16(at);
    if (length < 2) return Header::bad;
    if (bytes.size() - at < length) return Header::cut;
    const Bytes body = bytes.subspan(at + 2, length - 2);
    using namespace std::string_view_literals;
    if (marker == 0xe1 && !exif_seen && starts_with(body, "Exif\0\0"sv)) {
      info.orientation = tiff_orientation(body.subspan(6));
      exif_seen = true;
    }
    const bool frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame) {
      if (body.size() < 6) return Header::bad;
      info.height = static_cast<int>(in.u16(at + 3));
      info.width = static_cast<int>(in.u16(at + 5));
      return Header::ok;
    }
    at += length;
  }
}

Header png_header(Bytes bytes, ImageInfo& info) {
  const Reader in{bytes};
  std::size_t at = 8;
  while (true) {
    if (bytes.size() - at < 8) return Header::cut;
    const std::size_t length = in.u32(at);
    const Bytes type = bytes.subspan(at + 4, 4);
    if (at == 8) {
      if (!starts_with(type, "IHDR") || length != 13) return Header::bad;
    } else if (starts_with(type, "IDAT")) {
      return Header::ok;
    }
    if (starts_with(type, "IEND")) return Header::bad;
    if (bytes.size() - at - 8 < length + 4) return Header::cut;
    if (at == 8) {
      info.width = static_cast<int>(std::min<std::uint32_t>(in.u32(at + 8), 0x7fffffff));
      info.height = static_cast<int>(std::min<std::uint32_t>(in.u32(at + 12), 0x7fffffff));
    }
    if (starts_with(type, "eXIf")) info.orientation = tiff_orientation(bytes.subspan(at + 8, length));
    at += 12 + length;  // length, type, body, checksum
  }
}

Header bmp_header(Bytes bytes, ImageInfo& info) {
  if (bytes.size() < 30) return Header::cut;
  const Reader in{bytes, false};
  if (in.u32(14) == 12) {  // OS/2
    info.width = static_cast<int>(in.u16(18));
    info.height = static_cast<int>(in.u16(20));
  } else {
    info.width = static_cast<int>(in.u32(18));
    const auto height = static_cast<std::int32_t>(in.u32(22));  // negative: rows run from top to bottom
    if (height == INT32_MIN) return Header::bad;
    info.height = std::abs(height);
  }
  return Header::ok;
}

/// `bytes` may be the beginning of a file of file_size bytes.
Header read_header(Bytes bytes, ImageInfo& info) {
  info = {};
  info.format = format_of(bytes);
  if (info.format == "jpeg") return jpeg_header(bytes, info);
  if (info.format == "png") return png_header(bytes, info);
  if (info.format == "bmp") return bmp_header(bytes, info);
  return info.format.empty() ? Header::bad : Header::ok;
}

/// A hostile or damaged header must not make us allocate gigabytes: sizes are bounded as in OpenCV, and by the file's own
/// size (a JPEG spends at least one bit on a 32 x 32 block, a PNG at least one byte on about 8000 pixels: 65536 is
/// generous).
void check_size(const ImageInfo& info, std::size_t file_size, const std::string& name) {
  const auto pixels = static_cast<std::int64_t>(info.width) * info.height;
  FROST_CHECK(info.width > 0 && info.height > 0 && info.width <= 1 << 20 && info.height <= 1 << 20 && pixels <= 1 << 30 &&
                  static_cast<std::uint64_t>(pixels) / 65536 <= file_size,
              name, ": image size ", info.width, " x ", info.height, " is not plausible");
}

ImageInfo checked_header(Bytes bytes, std::size_t file_size, const std::string& name) {
  ImageInfo info;
  const Header state = read_header(bytes, info);
  FROST_CHECK(!bytes.empty(), name, ": the file is empty");
  FROST_CHECK(!info.format.empty(), name, ": not an image (unknown format)");
  FROST_CHECK(state != Header::cut, name, ": the ", info.format, " file ends within its header");
  FROST_CHECK(state == Header::ok, name, ": the ", info.format, " header is damaged");
  if (info.format == "jpeg" || info.format == "png" || info.format == "bmp") check_size(info, file_size, name);
  return info;
}

/// The picture as a person should see it. Orientation o maps target (y, x) to a source pixel; 5..8 transpose.
Image turned(Image source, int orientation) {
  if (orientation <= 1 || orientation > 8) return source;
  const bool transpose = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;  // of the source
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const int h = source.height, w = source.width;
  Image out(transpose ? w : h, transpose ? h : w);
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int sy = transpose ? x : y, sx = transpose ? y : x;
      std::memcpy(out.at(y, x), source.at(flip_y ? h - 1 - sy : sy, flip_x ? w - 1 - sx : sx), 3);
    }
  }
  return out;
}

// ---- JPEG
// ------------------------------------------------------------------------------------------------------------------

/// libjpeg reports errors by a callback that must not return: it jumps back into the function that called libjpeg. Those
/// functions own nothing that needs a destructor.
struct JpegErrors : jpeg_error_mgr {
  std::jmp_buf jump;
  char text[JMSG_LENGTH_MAX] = {};  // of the error, or of the first warning
};

void on_error(j_common_ptr codec) {
  auto* errors = static_cast<JpegErrors*>(codec->err);
  errors->format_message(codec, errors->text);
  std::longjmp(errors->jump, 1);
}

void on_message(j_common_ptr codec, int level) {
  auto* errors = static_cast<JpegErrors*>(codec->err);
  if (level < 0 && errors->num_warnings++ == 0) errors->format_message(codec, errors->text);
}

void install(JpegErrors& errors) {
  jpeg_std_error(&errors);
  errors.error_exit = on_error;
  errors.emit_message = on_message;
}

class JpegDecoder {
 public:
  JpegDecoder() { install(errors_); }
  ~JpegDecoder() { jpeg_destroy_decompress(&codec_); }  // harmless on a zeroed struct
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  bool start(Bytes bytes) {
    codec_.err = &errors_;
    if (setjmp(errors_.jump)) return false;
    jpeg_create_decompress(&codec_);
    progress_.progress_monitor = [](j_common_ptr codec) {
      // A progressive file of a few kilobytes can ask for thousands of passes over a huge image.
      auto* self = reinterpret_cast<j_decompress_ptr>(codec);
      if (self->input_scan_number > 500) {
        auto* errors = static_cast<JpegErrors*>(codec->err);
        std::strcpy(errors->text, "more than 500 scans");
        std::longjmp(errors->jump, 1);
      }
    };
    codec_.progress = &progress_;
    jpeg_mem_src(&codec_, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&codec_, TRUE);
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

Image decode_jpeg(Bytes bytes, const ImageInfo& info, const std::string& name, std::string& damage) {
  JpegDecoder decoder;
  FROST_CHECK(decoder.start(bytes), name, ": cannot decode JPEG: ", decoder.text());
  FROST_CHECK(decoder.width() == info.width && decoder.height() == info.height, name,
              ": cannot decode JPEG: contradictory sizes");
  Image image(decoder.height(), decoder.width());
  std::vector<std::uint8_t> inks(decoder.four_inks() ? static_cast<std::size_t>(image.width) * 4 : 0);
  for (int y = 0; y < image.height; ++y) {
    std::uint8_t* row = image.at(y, 0);
    FROST_CHECK(decoder.read_row(inks.empty() ? row : inks.data()), name, ": cannot decode JPEG: ", decoder.text());
    for (std::size_t x = 0; x < inks.size() / 4; ++x) {  // Adobe's inverted CMYK: 255 is no ink
      const int black = inks[4 * x + 3];
      for (int c = 0; c < 3; ++c) {
        row[3 * x + static_cast<std::size_t>(2 - c)] =
            static_cast<std::uint8_t>(black - ((255 - inks[4 * x + static_cast<std::size_t>(c)]) * black >> 8));
      }
    }
  }
  if (!decoder.finish() || decoder.warned()) damage = decoder.text();
  return image;
}

class JpegEncoder {
 public:
  JpegEncoder() { install(errors_); }
  ~JpegEncoder() {
    jpeg_destroy_compress(&codec_);
    std::free(data_);
  }
  JpegEncoder(const JpegEncoder&) = delete;
  JpegEncoder& operator=(const JpegEncoder&) = delete;

  bool encode(const Image& image, int quality, bool full_chroma) {
    codec_.err = &errors_;
    if (setjmp(errors_.jump)) return false;
    jpeg_create_compress(&codec_);
    jpeg_mem_dest(&codec_, &data_, &size_);
    codec_.image_width = static_cast<JDIMENSION>(image.width);
    codec_.image_height = static_cast<JDIMENSION>(image.height);
    codec_.input_components = 3;
    codec_.in_color_space = JCS_EXT_BGR;
    jpeg_set_defaults(&codec_);
    jpeg_set_quality(&codec_, quality, TRUE);
    if (full_chroma) codec_.comp_info[0].h_samp_factor = codec_.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&codec_, TRUE);
    while (codec_.next_scanline < codec_.image_height) {
      JSAMPROW rows[1] = {const_cast<std::uint8_t*>(image.at(static_cast<int>(codec_.next_scanline), 0))};
      jpeg_write_scanlines(&codec_, rows, 1);
    }
    jpeg_finish_compress(&codec_);
    return true;
  }
  std::vector<std::uint8_t> bytes() const { return {data_, data_ + size_}; }
  std::string text() const { return errors_.text; }

 private:
  JpegErrors errors_;
  jpeg_compress_struct codec_ = {};
  unsigned char* data_ = nullptr;
  unsigned long size_ = 0;
};

// ---- PNG
// -------------------------------------------------------------------------------------------------------------------

std::uint32_t crc32(Bytes bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0xedb88320u : 0u);
    }
    return t;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (const auto byte : bytes) crc = crc >> 8 ^ table[(crc ^ byte) & 255];
  return ~crc;
}

/// stb does not look at checksums; without this, flipped bits would become noise in a training picture.
void check_png_chunks(Bytes bytes, const std::string& name) {
  const Reader in{bytes};
  for (std::size_t at = 8;;) {
    FROST_CHECK(bytes.size() - at >= 12, name, ": the png file is cut off");
    const std::size_t length = in.u32(at);
    FROST_CHECK(bytes.size() - at - 12 >= length, name, ": the png file is cut off");
    FROST_CHECK(crc32(bytes.subspan(at + 4, length + 4)) == in.u32(at + 8 + length), name,
                ": the png file is damaged (checksum of a chunk)");
    if (starts_with(bytes.subspan(at + 4), "IEND")) return;
    at += 12 + length;
  }
}

Image decode_with_stb(Bytes bytes, const ImageInfo& info, const std::string& name) {
  if (info.format == "png") check_png_chunks(bytes, name);
  int width = 0, height = 0;
  Image image;
  std::string cause;
  FROST_CHECK(stb::decode_rgb(bytes, width, height, image.pixels, cause), name, ": cannot decode ", info.format, ": ",
              cause);
  FROST_CHECK(width == info.width && height == info.height, name, ": cannot decode ", info.format, ": contradictory sizes");
  image.height = height;
  image.width = width;
  swap_red_blue(image.pixels.data(), image.pixels.data(), image.pixels.size() / 3);
  return image;
}

void check_writable(const fs::path& path, const Image& image, int most) {
  FROST_CHECK(image.width > 0 && image.height > 0 && image.width <= most && image.height <= most, path.string(),
              ": cannot write an image of ", image.width, " x ", image.height, " pixels");
}

}  // namespace

ImageInfo probe_image(const fs::path& path) {
  constexpr std::size_t kUsual = 64 << 10;  // EXIF with its thumbnail fits; colour profiles may not
  auto bytes = read_file(path, kUsual);
  std::size_t file_size = bytes.size();
  if (bytes.size() == kUsual) {
    ImageInfo info;
    if (read_header(bytes, info) == Header::cut) {
      bytes = read_file(path);
      file_size = bytes.size();
    } else {
      file_size = fs::file_size(path);
    }
  }
  return checked_header(bytes, file_size, path.string());
}

Image decode_image(const fs::path& path, std::string* warning) {
  return decode_image(read_file(path), path.string(), warning);
}

Image decode_image(Bytes bytes, const std::string& name, std::string* warning) try {
  if (warning) warning->clear();
  const ImageInfo info = checked_header(bytes, bytes.size(), name);
  Image image;
  if (info.format == "jpeg") {
    std::string damage;
    image = decode_jpeg(bytes, info, name, damage);
    if (warning && !damage.empty()) *warning = name + ": damaged JPEG: " + damage;
  } else if (info.format == "png" || info.format == "bmp") {
    image = decode_with_stb(bytes, info, name);
  } else {
    fail(name, ": ", info.format, " images are not supported, convert the file to JPEG or PNG");
  }
  return turned(std::move(image), info.orientation);
} catch (const std::bad_alloc&) {
  fail(name, ": not enough memory to decode the image");
}

std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality, bool full_chroma) {
  check_writable("JPEG", image, JPEG_MAX_DIMENSION);
  JpegEncoder encoder;
  FROST_CHECK(encoder.encode(image, std::clamp(quality, 1, 100), full_chroma), "cannot encode JPEG: ", encoder.text());
  return encoder.bytes();
}

void write_jpeg(const fs::path& path, const Image& image, int quality, bool full_chroma) {
  check_writable(path, image, JPEG_MAX_DIMENSION);
  const auto bytes = encode_jpeg(image, quality, full_chroma);
  write_file_atomically(path, std::as_bytes(std::span(bytes)));
}

namespace {
void write_with_stb(const fs::path& path, const Image& image, const char* format, decltype(stb::encode_png)& encode) {
  check_writable(path, image, 1 << 20);
  std::vector<std::uint8_t> rgb(image.pixels.size());
  swap_red_blue(image.pixels.data(), rgb.data(), rgb.size() / 3);
  const auto bytes = encode(rgb.data(), image.width, image.height);
  FROST_CHECK(!bytes.empty(), path.string(), ": cannot encode ", format);
  write_file_atomically(path, std::as_bytes(std::span(bytes)));
}
}  // namespace

void write_png(const fs::path& path, const Image& image) { write_with_stb(path, image, "PNG", stb::encode_png); }

void write_image(const fs::path& path, const Image& image) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char ch) { return static_cast<char>(std::tolower(ch)); });
  if (ending == ".png") return write_png(path, image);
  if (ending == ".bmp") return write_with_stb(path, image, "BMP", stb::encode_bmp);
  write_jpeg(path, image);
}

}  // namespace frost
