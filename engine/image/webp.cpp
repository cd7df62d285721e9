#include <webp/decode.h>
#include <webp/encode.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/image/formats.h"
#include "kernels/error.h"

namespace frost::image::webp {
namespace {

/// The body of a RIFF chunk; empty where there is none.
Bytes chunk(Bytes bytes, std::string_view type) {
  const ByteReader in{bytes, false};
  for (std::size_t at = 12; at <= bytes.size() && bytes.size() - at >= 8;) {
    const std::size_t length = in.u32(at + 4), room = bytes.size() - at - 8;
    if (starts_with(bytes.subspan(at), type)) return bytes.subspan(at + 8, std::min(length, room));
    if (length + length % 2 > room) break;
    at += 8 + length + length % 2;
  }
  return {};
}

std::string cause_of(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return "out of memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "a feature that is not read";
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return "the file is cut off";
    default:
      return "corrupt data";
  }
}

/// Reads the whole picture; with `image` null only to find errors, and only the last rows are kept.
void read(Bytes bytes, Image* image) {
  WebPDecoderConfig config;
  FROST_CHECK(WebPInitDecoderConfig(&config) && WebPGetFeatures(bytes.data(), bytes.size(), &config.input) == VP8_STATUS_OK,
              "the webp header is corrupt");
  FROST_CHECK(!config.input.has_animation, "animated webp files are not read");
  const std::uint64_t promised = std::uint64_t{ByteReader{bytes, false}.u32(4)} + 8;
  FROST_CHECK(promised <= bytes.size(), "the webp file is cut off");
  const int width = config.input.width, height = config.input.height;
  Image last;
  if (image) {
    *image = Image(height, width);
  } else {
    // All rows above are decoded for it. libwebp wants an even first row: colours may be halved.
    const int first = (height - 1) / 2 * 2;
    last = Image(height - first, width);
    config.options.use_cropping = 1;
    config.options.crop_top = first;
    config.options.crop_width = width;
    config.options.crop_height = last.height;
  }
  Image& out = image ? *image : last;
  config.output.colorspace = MODE_BGR;  // alpha is dropped, not blended
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {.rgba = out.pixels.data(), .stride = 3 * width, .size = out.pixels.size()};
  const VP8StatusCode status = WebPDecode(bytes.data(), bytes.size(), &config);
  FROST_CHECK(status == VP8_STATUS_OK, "cannot decode webp: ", cause_of(status));
}

}  // namespace

Header read_header(Bytes bytes) {
  Header header{.state = Header::cut, .info = {.format = "webp"}};
  WebPBitstreamFeatures features;
  const VP8StatusCode status = WebPGetFeatures(bytes.data(), bytes.size(), &features);
  if (status == VP8_STATUS_NOT_ENOUGH_DATA) return header;
  header.state = status == VP8_STATUS_OK ? Header::ok : Header::bad;
  header.info.width = features.width;
  header.info.height = features.height;
  Bytes exif = chunk(bytes, "EXIF");                                               // after the pixels
  if (starts_with(exif, std::string_view("Exif\0\0", 6))) exif = exif.subspan(6);  // some writers copy JPEG's whole segment
  header.info.orientation = exif_orientation(exif);
  return header;
}

void check(Bytes bytes, std::string&) { read(bytes, nullptr); }

Image decode(Bytes bytes, std::string&) {
  Image image;
  read(bytes, &image);
  return image;
}

std::vector<std::uint8_t> encode(const Image& image, float quality) {
  std::uint8_t* data = nullptr;
  const std::size_t size = WebPEncodeBGR(image.pixels.data(), image.width, image.height, 3 * image.width, quality, &data);
  std::vector<std::uint8_t> out(data, data + size);
  WebPFree(data);
  return out;
}

}  // namespace frost::image::webp
