#include "engine/image/codec.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include "engine/base/atomic_file.h"
#include "engine/base/folder_files.h"
#include "engine/base/input_file.h"
#include "engine/image/color.h"
#include "engine/image/formats.h"
#include "engine/image/jpeg_errors.h"
#include "engine/image/stb.h"
#include "kernels/error.h"

namespace frost {
namespace image {

int exif_orientation(Bytes tiff) {
  if (tiff.size() < 8) return 1;
  const bool little = tiff[0] == 'I' && tiff[1] == 'I';
  if (!little && !(tiff[0] == 'M' && tiff[1] == 'M')) return 1;
  const ByteReader in{tiff, !little};
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

}  // namespace image

namespace {

namespace fs = std::filesystem;
using image::Bytes;
using image::Header;

struct Format {
  const char* name;
  bool (*recognised)(Bytes);
  /// Null: known, but cannot be decoded here.
  Header (*read_header)(Bytes) = nullptr;
  void (*check)(Bytes, std::string& corruption) = nullptr;
  Image (*decode)(Bytes, std::string& corruption) = nullptr;
};

template <std::size_t... sizes>
bool begins(Bytes bytes, const char (&... magics)[sizes]) {
  return (image::starts_with(bytes, {magics, sizes - 1}) || ...);
}

/// Null where the first bytes are no picture's.
const Format* format_of(Bytes bytes) {
  namespace im = image;
  static const Format formats[] = {
      {"jpeg", [](Bytes b) { return begins(b, "\xff\xd8\xff"); }, im::jpeg::read_header, im::jpeg::check, im::jpeg::decode},
      {"png", [](Bytes b) { return begins(b, "\x89PNG\r\n\x1a\n"); }, im::png::read_header, im::png::check, im::png::decode},
      {"bmp", [](Bytes b) { return begins(b, "BM"); }, im::bmp::read_header, im::bmp::check, im::bmp::decode},
      {"webp", [](Bytes b) { return begins(b, "RIFF") && b.size() > 12 && begins(b.subspan(8), "WEBP"); },
       im::webp::read_header, im::webp::check, im::webp::decode},
      {"tiff", [](Bytes b) { return begins(b, "II*\0", "MM\0*", "II+\0", "MM\0+"); }, im::tiff::read_header, im::tiff::check,
       im::tiff::decode},
      {"gif", [](Bytes b) { return begins(b, "GIF8"); }},
      {"pfm", [](Bytes b) { return begins(b, "PF\n", "Pf\n"); }},
      {"ppm",  // and the formats for grey and two-valued pictures
       [](Bytes b) {
         return b.size() > 2 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6' && (std::isspace(b[2]) || b[2] == '#');
       }}};
  const auto found = std::ranges::find_if(formats, [&](const Format& f) { return f.recognised(bytes); });
  return found == std::end(formats) ? nullptr : found;
}

/// A picture's memory is bounded by its file's size, so that a hostile or corrupt header cannot make us allocate gigabytes:
///   - by what the format can code in so many bytes (Header::least_bytes);
///   - 2048 pixels for each byte, or 4096 x 4096 in all, whichever is more: formats that code flat pictures without limit;
///   - and PIL's limit for any file.
void check_size(const Header& header, std::size_t file_size) {
  constexpr std::int64_t kMost = 178956970, kAlways = std::int64_t{1} << 24, kPerByte = 2048;
  const ImageInfo& info = header.info;
  const auto pixels = static_cast<std::int64_t>(info.width) * info.height;
  const auto size = static_cast<std::int64_t>(file_size);
  FROST_CHECK(info.width > 0 && info.height > 0 && std::max(info.width, info.height) <= kLongestSide, "image size ",
              info.width, " x ", info.height, " is not plausible");
  FROST_CHECK(pixels <= kMost, "image size ", info.width, " x ", info.height, " is not plausible: more than ", kMost,
              " pixels");
  FROST_CHECK(header.least_bytes <= file_size && pixels <= std::max(kAlways, kPerByte * size), "image size ", info.width,
              " x ", info.height, " is not plausible for a file of ", file_size, " bytes");
}

const Format& known_format(Bytes bytes) {
  FROST_CHECK(!bytes.empty(), "the file is empty");
  const Format* format = format_of(bytes);
  FROST_CHECK(format, "not an image (unknown format)");
  return *format;
}

ImageInfo checked_header(const Format& format, Bytes bytes, std::size_t file_size) {
  const Header header = format.read_header(bytes);
  FROST_CHECK(header.state != Header::cut, "the ", format.name, " file ends within its header");
  FROST_CHECK(header.state == Header::ok, "the ", format.name, " header is corrupt");
  check_size(header, file_size);
  return header.info;
}

/// Errors thrown inside give the cause; this adds the file's name before it.
template <class Work>
auto naming(const std::string& name, Work work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    fail(name, ": not enough memory to decode the image");
  } catch (const Error& e) {
    fail(name, ": ", e.what());
  }
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

using image::JpegErrors;

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

std::string damage_text(const std::string& name, const Format& format, const std::string& corruption) {
  std::string upper = format.name;
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name + ": corrupt " + upper + ": " + corruption;
}

Bytes bytes_of(const FileBytes& file) {
  return {reinterpret_cast<const std::uint8_t*>(file.bytes().data()), file.bytes().size()};
}

void check_writable(const fs::path& path, const Image& image, int most) {
  FROST_CHECK(image.width > 0 && image.height > 0 && image.width <= most && image.height <= most, path.string(),
              ": cannot write an image of ", image.width, " x ", image.height, " pixels");
}

}  // namespace

ImageInfo probe_image(const fs::path& path, std::string* warning) {
  constexpr std::size_t kUsual = 64 << 10;  // EXIF with its thumbnail fits; colour profiles may not
  if (warning) warning->clear();
  const InputFile file(path);
  FileBytes data(file, kUsual);
  // A JPEG's headers come before its pixels; the others must be read completely.
  const Format* found = format_of(bytes_of(data));
  const bool jpeg = found && found->decode == image::jpeg::decode;
  const bool enough = !found || !found->decode || (jpeg && found->read_header(bytes_of(data)).state == Header::ok);
  if (!enough && file.size() > kUsual) data = FileBytes(file);
  std::array<std::byte, 2> end{};
  file.read(end, file.size() - std::min<std::size_t>(file.size(), end.size()));
  return naming(path.string(), [&] {
    const Bytes bytes = bytes_of(data);
    const Format& format = known_format(bytes);
    if (!format.decode) return ImageInfo{.format = format.name};
    const ImageInfo info = checked_header(format, bytes, file.size());
    std::string corruption;
    format.check(bytes, corruption);
    if (warning && !corruption.empty()) *warning = damage_text(path.string(), format, corruption);
    if (warning && jpeg && end != std::array{std::byte{0xff}, std::byte{0xd9}})
      *warning = path.string() + ": JPEG has no end marker (cut off?), kept as it is";
    return info;
  });
}

Image decode_image(const fs::path& path, std::string* warning) {
  const FileBytes data(path);
  return decode_image(bytes_of(data), path.string(), warning);
}

Image decode_image(Bytes bytes, const std::string& name, std::string* warning) {
  if (warning) warning->clear();
  return naming(name, [&] {
    const Format& format = known_format(bytes);
    FROST_CHECK(format.decode, format.name, " images are not supported, convert the file to JPEG or PNG");
    const ImageInfo info = checked_header(format, bytes, bytes.size());
    std::string corruption;
    Image image = turned(format.decode(bytes, corruption), info.orientation);
    if (warning && !corruption.empty()) *warning = damage_text(name, format, corruption);
    return image;
  });
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
void write_encoded(const fs::path& path, const std::vector<std::uint8_t>& bytes, const char* format) {
  FROST_CHECK(!bytes.empty(), path.string(), ": cannot encode ", format);
  write_file_atomically(path, std::as_bytes(std::span(bytes)));
}
void write_with_stb(const fs::path& path, const Image& image, const char* format, decltype(stb::encode_png)& encode) {
  check_writable(path, image, 1 << 20);
  std::vector<std::uint8_t> rgb(image.pixels.size());
  swap_red_blue(image.pixels.data(), rgb.data(), rgb.size() / 3);
  write_encoded(path, encode(rgb.data(), image.width, image.height), format);
}
}  // namespace

void write_png(const fs::path& path, const Image& image) { write_with_stb(path, image, "PNG", stb::encode_png); }

void write_image(const fs::path& path, const Image& image) {
  const std::string ending = lower_ending(path);
  if (ending == "png") return write_png(path, image);
  if (ending == "bmp") return write_with_stb(path, image, "BMP", stb::encode_bmp);
  if (ending == "webp" || ending == "tif" || ending == "tiff") {
    check_writable(path, image, 16383);
    constexpr float kQuality = 95;  // as a JPEG's
    return ending == "webp" ? write_encoded(path, image::webp::encode(image, kQuality), "WebP")
                            : write_encoded(path, image::tiff::encode(image), "TIFF");
  }
  write_jpeg(path, image);
}

}  // namespace frost
