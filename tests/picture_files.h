#pragma once
#include <tiffio.h>
#include <unistd.h>
#include <webp/encode.h>
#include <zlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "engine/image/codec.h"
#include "kernels/error.h"

/// Picture files of many kinds, made here, whole and corrupt.
namespace frost::testing {

using Bytes = std::vector<std::uint8_t>;

inline void put(Bytes& out, std::uint64_t value, int bytes, bool big = false) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> 8 * (big ? bytes - 1 - i : i)));
}
inline void poke(Bytes& out, std::size_t at, std::uint64_t value, int bytes, bool big = false) {
  for (int i = 0; i < bytes; ++i)
    out.at(at + static_cast<std::size_t>(i)) = static_cast<std::uint8_t>(value >> 8 * (big ? bytes - 1 - i : i));
}
inline void put(Bytes& out, const std::string& text) { out.insert(out.end(), text.begin(), text.end()); }
inline void put(Bytes& out, const Bytes& bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

inline Bytes slurp_bytes(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void spill(const std::filesystem::path& file, const Bytes& bytes) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}
/// A path of this process' own for one file.
inline std::filesystem::path scratch_file(const std::string& name) {
  return std::filesystem::temp_directory_path() / ("frost_picture_" + std::to_string(::getpid()) + "_" + name);
}

// ---- PNG

inline void put_chunk(Bytes& png, const std::string& type, const Bytes& body) {
  put(png, body.size(), 4, true);
  Bytes checked(type.begin(), type.end());
  put(checked, body);
  put(png, checked);
  put(png, crc32(0, checked.data(), static_cast<uInt>(checked.size())), 4, true);
}
struct PngKind {
  int width = 0, height = 0, bits = 8, colour = 2, interlaced = 0;
  Bytes palette{};
};
inline Bytes png_header(const PngKind& k) {
  Bytes png = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, header;
  put(header, static_cast<std::uint64_t>(k.width), 4, true), put(header, static_cast<std::uint64_t>(k.height), 4, true);
  for (const int v : {k.bits, k.colour, 0, 0, k.interlaced}) put(header, static_cast<std::uint64_t>(v), 1);
  put_chunk(png, "IHDR", header);
  if (!k.palette.empty()) put_chunk(png, "PLTE", k.palette);
  return png;
}
/// `rows`: each after its filter's byte.
inline Bytes png_of(const PngKind& k, const Bytes& rows, int level = 6) {
  Bytes png = png_header(k), data(compressBound(rows.size()));
  uLongf size = data.size();
  compress2(data.data(), &size, rows.data(), rows.size(), level);
  data.resize(size);
  put_chunk(png, "IDAT", data);
  put_chunk(png, "IEND", {});
  return png;
}

// ---- WebP

inline Bytes webp_lossless(const Image& image) {
  std::uint8_t* data = nullptr;
  const std::size_t size = WebPEncodeLosslessBGR(image.pixels.data(), image.width, image.height, 3 * image.width, &data);
  Bytes out(data, data + size);
  WebPFree(data);
  return out;
}
/// The extended container: the picture's chunk, and EXIF after it.
inline Bytes webp_with_exif(const Bytes& plain, int width, int height, const Bytes& exif, bool animated = false) {
  Bytes body;
  put(body, "WEBPVP8X"), put(body, 10, 4);
  put(body, (exif.empty() ? 0 : 8) | (animated ? 2 : 0), 4);
  put(body, static_cast<std::uint64_t>(width - 1), 3), put(body, static_cast<std::uint64_t>(height - 1), 3);
  body.insert(body.end(), plain.begin() + 12, plain.end());
  if (!exif.empty()) {
    put(body, "EXIF"), put(body, exif.size(), 4), put(body, exif);
    if (exif.size() % 2) body.push_back(0);
  }
  Bytes out;
  put(out, "RIFF"), put(out, body.size(), 4), put(out, body);
  return out;
}

// ---- TIFF

struct TiffKind {
  std::uint32_t width = 0, height = 0;
  int bits = 8, samples = 3, photometric = PHOTOMETRIC_RGB, planar = PLANARCONFIG_CONTIG, compression = COMPRESSION_LZW;
  int orientation = 0, format = 0, extra = 0;
  std::uint32_t tile = 0, rows = 4;      // of a tile's side, of a strip
  std::vector<std::uint16_t> palette{};  // red, green, blue
};
/// `rows`: as libtiff takes scanlines, plane by plane. For tiles of 16 x 16: a picture of one tile.
inline Bytes tiff_of(const TiffKind& k, const Bytes& rows, int pages = 1) {
  const auto path = scratch_file("made.tif");
  TIFF* file = TIFFOpen(path.c_str(), "w");
  for (int page = 0; page < pages; ++page) {
    TIFFSetField(file, TIFFTAG_IMAGEWIDTH, k.width);
    TIFFSetField(file, TIFFTAG_IMAGELENGTH, k.height);
    TIFFSetField(file, TIFFTAG_BITSPERSAMPLE, k.bits);
    TIFFSetField(file, TIFFTAG_SAMPLESPERPIXEL, k.samples);
    TIFFSetField(file, TIFFTAG_PHOTOMETRIC, k.photometric);
    TIFFSetField(file, TIFFTAG_PLANARCONFIG, k.planar);
    TIFFSetField(file, TIFFTAG_COMPRESSION, k.compression);
    if (k.orientation) TIFFSetField(file, TIFFTAG_ORIENTATION, k.orientation);
    if (k.format) TIFFSetField(file, TIFFTAG_SAMPLEFORMAT, k.format);
    if (k.extra) {
      const std::uint16_t alpha[] = {static_cast<std::uint16_t>(k.extra)};
      TIFFSetField(file, TIFFTAG_EXTRASAMPLES, 1, alpha);
    }
    if (k.compression == COMPRESSION_JPEG && k.photometric == PHOTOMETRIC_YCBCR && k.planar == PLANARCONFIG_CONTIG)
      TIFFSetField(file, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    if (!k.palette.empty()) {
      const std::size_t n = k.palette.size() / 3;
      TIFFSetField(file, TIFFTAG_COLORMAP, k.palette.data(), k.palette.data() + n, k.palette.data() + 2 * n);
    }
    Bytes data = rows;
    for (auto& byte : data) byte = static_cast<std::uint8_t>(byte + page);  // pages differ
    if (k.tile) {
      TIFFSetField(file, TIFFTAG_TILEWIDTH, k.tile);
      TIFFSetField(file, TIFFTAG_TILELENGTH, k.tile);
      data.resize(static_cast<std::size_t>(TIFFTileSize(file)));
      TIFFWriteTile(file, data.data(), 0, 0, 0, 0);
    } else {
      TIFFSetField(file, TIFFTAG_ROWSPERSTRIP, k.rows);
      const auto row = static_cast<std::size_t>(TIFFScanlineSize(file));
      std::size_t at = 0;
      for (int plane = 0; plane < (k.planar == PLANARCONFIG_SEPARATE ? k.samples : 1); ++plane)
        for (std::uint32_t y = 0; y < k.height; ++y, at += row)
          TIFFWriteScanline(file, data.data() + at, y, static_cast<std::uint16_t>(plane));
    }
    TIFFWriteDirectory(file);
  }
  TIFFClose(file);
  const Bytes out = slurp_bytes(path);
  std::filesystem::remove(path);
  return out;
}
/// A little-endian file with another value in one of its directory's entries (tag, type, count, value).
inline Bytes with_entry(Bytes bytes, int tag, std::uint64_t value) {
  std::uint32_t directory;
  std::memcpy(&directory, &bytes[4], 4);
  for (std::size_t at = directory + 2; at + 12 <= bytes.size(); at += 12)
    if (bytes[at] == (tag & 255) && bytes[at + 1] == tag >> 8) {
      poke(bytes, at + 8, value, bytes[at + 2] == 3 ? 2 : 4);
      break;
    }
  return bytes;
}
inline Bytes rgb_rows(const Image& image) {
  Bytes rows(image.pixels);
  for (std::size_t i = 0; i < rows.size(); i += 3) std::swap(rows[i], rows[i + 2]);
  return rows;
}
inline TiffKind rgb_kind(const Image& image) {
  return {.width = static_cast<std::uint32_t>(image.width), .height = static_cast<std::uint32_t>(image.height)};
}

// ---- any

/// "png", "jpg", "bmp", "webp" or "tif"; all but JPEG without loss.
inline Bytes encoded(const std::string& format, const Image& image) {
  if (format == "webp") return webp_lossless(image);
  if (format == "tif") return tiff_of(rgb_kind(image), rgb_rows(image));
  if (format == "jpg") return encode_jpeg(image, 90);
  const auto path = scratch_file("made." + format);
  write_image(path, image);
  const Bytes out = slurp_bytes(path);
  std::filesystem::remove(path);
  return out;
}

/// Where a corruption is found: by the scan (before pixels are made), by decoding alone, or it is kept with a warning
/// (JPEG).
enum class Found { scan, decode, kept };
struct CorruptImage {
  std::string format, kind;
  Bytes bytes;
  Found found;
  std::string file() const { return kind + "_" + format + "." + format; }
};

/// Every kind of corruption in every format that knows it, from one picture.
inline std::vector<CorruptImage> corrupt_images(const Image& image) {
  std::vector<CorruptImage> all;
  const auto add = [&](const std::string& format, const std::string& kind, Bytes bytes, Found found = Found::scan) {
    all.push_back({format, kind, std::move(bytes), found});
  };
  const auto cut = [](const Bytes& bytes, std::size_t left) {
    return Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(left));
  };
  const std::string text = "this is no picture, whatever its name says\n";
  const std::string lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
  for (const std::string format : {"png", "jpg", "bmp", "webp", "tif"}) {
    const Bytes good = encoded(format, image);
    const Found cut_off = format == "jpg" ? Found::kept : Found::scan;
    add(format, "empty", {});
    add(format, "stub", cut(good, 20));
    add(format, "half", cut(good, good.size() / 2), cut_off);
    add(format, "endless", cut(good, good.size() - 14), cut_off);  // a PNG's IEND has 12 bytes
    add(format, "text", Bytes(text.begin(), text.end()));
    add(format, "pointer", Bytes(lfs.begin(), lfs.end()));
  }
  const auto find = [](const Bytes& bytes, const Bytes& what) {
    return static_cast<std::size_t>(std::search(bytes.begin(), bytes.end(), what.begin(), what.end()) - bytes.begin());
  };
  {
    const Bytes good = encoded("png", image);
    Bytes flipped = good, huge = good, filter, short_data;
    flipped[good.size() / 2] ^= 1;
    add("png", "flipped", flipped);
    poke(huge, 16, 100000, 4, true), poke(huge, 20, 100000, 4, true);
    add("png", "lying", huge);
    const PngKind kind{.width = image.width, .height = image.height};
    Bytes bodyless = png_header(kind);
    put_chunk(bodyless, "IEND", {});
    add("png", "bodyless", bodyless);
    const auto row = static_cast<std::size_t>(3 * image.width + 1);
    Bytes rows(row * static_cast<std::size_t>(image.height));
    add("png", "too_few_rows", png_of(kind, cut(rows, rows.size() / 2)));  // its checksums are right
    rows[row] = 9;
    add("png", "no_such_filter", png_of(kind, rows));
    Bytes garbage = png_header(kind);
    put_chunk(garbage, "IDAT", Bytes(500, 0xa5));
    put_chunk(garbage, "IEND", {});
    add("png", "garbage", garbage);
  }
  {
    const Bytes good = encoded("jpg", image);
    const std::size_t frame = find(good, {0xff, 0xc0}), scan = find(good, {0xff, 0xda});
    Bytes huge = good, bodyless = cut(good, scan), empty_scan = cut(good, scan + 14), garbage = good;
    std::fill_n(huge.begin() + static_cast<std::ptrdiff_t>(frame) + 5, 4, 0xff);
    add("jpg", "lying", huge);
    put(bodyless, 0xffd9, 2, true);
    add("jpg", "bodyless", bodyless);
    put(empty_scan, 0xffd9, 2, true);
    add("jpg", "empty_scan", empty_scan);
    std::fill(garbage.begin() + static_cast<std::ptrdiff_t>(scan) + 200, garbage.end() - 2, std::uint8_t{0xa5});
    add("jpg", "garbage", garbage, Found::kept);
    Bytes tables = good;  // a quantisation table of a kind that is not
    tables[find(good, {0xff, 0xdb}) + 4] = 0x4f;
    add("jpg", "no_such_table", tables);
    Bytes quantisation = good, huffman = good;  // tables that the frame or the scan names, and that are not in the file
    quantisation[frame + 12] = 3;
    add("jpg", "no_quantisation", quantisation, Found::decode);
    huffman[scan + 6] = 0x33;
    add("jpg", "no_huffman", huffman, Found::decode);
  }
  {
    const Bytes good = encoded("bmp", image);
    Bytes huge = good, kind = good, bits = good;
    poke(huge, 18, 100000, 4), poke(huge, 22, 100000, 4);
    add("bmp", "lying", huge);
    add("bmp", "bodyless", cut(good, 54));
    poke(kind, 30, 4, 4);
    add("bmp", "jpeg_inside", kind);
    poke(bits, 28, 7, 2);
    add("bmp", "seven_bits", bits);
  }
  {
    const Bytes good = encoded("webp", image);
    Bytes garbage = good, bodyless = cut(good, 12), huge = good;
    std::fill(garbage.begin() + static_cast<std::ptrdiff_t>(good.size() / 2), garbage.end(), std::uint8_t{0xff});
    std::fill(garbage.begin() + 30, garbage.begin() + 60, std::uint8_t{0xff});
    add("webp", "garbage", garbage);
    poke(bodyless, 4, 4, 4);
    add("webp", "bodyless", bodyless);
    poke(huge, 21, 0x0fffffff, 4);  // VP8L: 14 bits each of width and height, less one
    add("webp", "lying", huge);
    add("webp", "animated", webp_with_exif(good, image.width, image.height, {}, true));
  }
  {
    const Bytes good = encoded("tif", image);
    Bytes garbage = good;
    std::fill(garbage.begin() + 8, garbage.begin() + 200, std::uint8_t{0xff});
    add("tif", "garbage", garbage);
    add("tif", "lying", with_entry(good, TIFFTAG_IMAGEWIDTH, 65000));
    add("tif", "cmyk", with_entry(good, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_SEPARATED));
    add("tif", "lab", with_entry(good, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_CIELAB));
    add("tif", "strips_elsewhere", with_entry(good, TIFFTAG_STRIPOFFSETS, good.size() - 2));
  }
  return all;
}

}  // namespace frost::testing
