#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/image/color.h"
#include "engine/image/formats.h"
#include "kernels/error.h"

namespace frost::image::tiff {
namespace {

/// A file in memory as libtiff reads it, and libtiff's first error and warning about it.
struct Source {
  Bytes bytes;
  std::size_t at = 0;
  std::string error{}, warning{};
};

tmsize_t read_some(thandle_t handle, void* out, tmsize_t size) {
  auto& source = *static_cast<Source*>(handle);
  const std::size_t count =
      std::min(static_cast<std::size_t>(size), source.bytes.size() - std::min(source.at, source.bytes.size()));
  if (count) std::memcpy(out, source.bytes.data() + source.at, count);
  source.at += count;
  return static_cast<tmsize_t>(count);
}
toff_t seek(thandle_t handle, toff_t to, int from) {
  auto& source = *static_cast<Source*>(handle);
  source.at = static_cast<std::size_t>(to) + (from == SEEK_CUR ? source.at : from == SEEK_END ? source.bytes.size() : 0);
  return source.at;
}
toff_t size_of(thandle_t handle) { return static_cast<Source*>(handle)->bytes.size(); }
int map(thandle_t handle, void** base, toff_t* size) {
  const Bytes bytes = static_cast<Source*>(handle)->bytes;
  *base = const_cast<std::uint8_t*>(bytes.data());
  *size = bytes.size();
  return 1;
}

/// libtiff's handlers are global. They find the file by its handle, so threads do not disturb each other.
template <std::string Source::*kept>
void keep(thandle_t handle, const char*, const char* format, std::va_list arguments) {
  if (!handle) return;
  std::array<char, 200> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  std::string& first = static_cast<Source*>(handle)->*kept;
  if (first.empty()) first = text.data();
}
void silence_libtiff() {
  static const bool once = [] {
    TIFFSetErrorHandler(nullptr);
    TIFFSetWarningHandler(nullptr);
    TIFFSetWarningHandlerExt(keep<&Source::warning>);
    TIFFSetErrorHandlerExt(keep<&Source::error>);
    return true;
  }();
  (void)once;
}

template <class... What>
[[noreturn]] void refuse(const What&... what) {
  fail("tiff files ", what..., " are not read");
}

/// libtiff reads the value of each entry of the first directory. Where thousands of entries name the same bytes of the
/// file, that takes thousands of times its size.
void check_directory(Bytes bytes) {
  const ByteReader in{bytes, starts_with(bytes, "MM")};
  const bool large = in.u16(2) == 43;  // BigTIFF: numbers of 64 bits, 20 bytes an entry
  const auto u64 = [&](std::size_t at) {
    const std::uint64_t first = in.u32(at), second = in.u32(at + 4);
    return in.big_endian ? first << 32 | second : second << 32 | first;
  };
  const std::uint64_t directory = large ? u64(8) : in.u32(4);
  if (directory > bytes.size()) return;  // libtiff reports this
  const std::size_t entry_bytes = large ? 20 : 12, first = directory + (large ? 8 : 2);
  const std::uint64_t count =
      std::min<std::uint64_t>(large ? u64(directory) : in.u16(directory), bytes.size() / entry_bytes);
  constexpr std::array<int, 19> kBytes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8};  // of each type
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = first + i * entry_bytes;
    const auto type = in.u16(entry + 2);
    const auto values = static_cast<double>(large ? u64(entry + 4) : in.u32(entry + 4));
    // What cannot be in the file is not read.
    if (const double size = type < kBytes.size() ? kBytes[type] * values : 0; size <= static_cast<double>(bytes.size()))
      sum += size;
  }
  FROST_CHECK(sum <= 2.0 * static_cast<double>(bytes.size()), "the tiff file is corrupt (its directory's entries take ", sum,
              " bytes)");
}

class Reader {
 public:
  explicit Reader(Bytes bytes) : source_{.bytes = bytes} {
    silence_libtiff();
    check_directory(bytes);
    file_.reset(TIFFClientOpen(
        "tiff", "r", &source_, read_some, [](thandle_t, void*, tmsize_t) { return tmsize_t{0}; }, seek,
        [](thandle_t) { return 0; }, size_of, map, [](thandle_t, void*, toff_t) {}));
    check(file_ != nullptr);
    take(TIFFTAG_IMAGEWIDTH, width_);
    take(TIFFTAG_IMAGELENGTH, height_);
    TIFFGetFieldDefaulted(file_.get(), TIFFTAG_BITSPERSAMPLE, &bits_);
    TIFFGetFieldDefaulted(file_.get(), TIFFTAG_SAMPLESPERPIXEL, &samples_);
    TIFFGetFieldDefaulted(file_.get(), TIFFTAG_PLANARCONFIG, &planar_);
    TIFFGetFieldDefaulted(file_.get(), TIFFTAG_SAMPLEFORMAT, &sample_format_);
    TIFFGetFieldDefaulted(file_.get(), TIFFTAG_COMPRESSION, &compression_);
    TIFFGetFieldDefaulted(file_.get(), TIFFTAG_ORIENTATION, &orientation_);
    if (!TIFFGetField(file_.get(), TIFFTAG_PHOTOMETRIC, &photometric_))
      photometric_ = samples_ >= 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK;
    if (TIFFIsTiled(file_.get())) {
      take(TIFFTAG_TILEWIDTH, tile_width_);
      take(TIFFTAG_TILELENGTH, tile_height_);
    }
  }

  int width() const { return clamped(width_); }
  int height() const { return clamped(height_); }
  int orientation() const { return orientation_ >= 1 && orientation_ <= 8 ? orientation_ : 1; }

  void check_kind() {
    switch (photometric_) {
      case PHOTOMETRIC_MINISWHITE:
      case PHOTOMETRIC_MINISBLACK:
      case PHOTOMETRIC_PALETTE:
      case PHOTOMETRIC_RGB:
        break;
      case PHOTOMETRIC_YCBCR:
        if (compression_ != COMPRESSION_JPEG) refuse("in YCbCr without JPEG compression");
        if (planar_ == PLANARCONFIG_SEPARATE) refuse("in YCbCr in three planes");  // libtiff would not convert them
        break;
      case PHOTOMETRIC_SEPARATED:
        refuse("in CMYK");
      case PHOTOMETRIC_CIELAB:
      case PHOTOMETRIC_ICCLAB:
      case PHOTOMETRIC_ITULAB:
        refuse("in L*a*b*");
      case PHOTOMETRIC_LOGL:
      case PHOTOMETRIC_LOGLUV:
        refuse("in LogLuv");
      default:
        refuse("of photometric kind ", photometric_);
    }
    if (sample_format_ == SAMPLEFORMAT_IEEEFP) refuse("of floating-point numbers");
    if (sample_format_ == SAMPLEFORMAT_INT) refuse("of signed numbers");
    if (sample_format_ != SAMPLEFORMAT_UINT && sample_format_ != SAMPLEFORMAT_VOID) refuse("of complex numbers");
    const bool small = bits_ == 1 || bits_ == 2 || bits_ == 4;
    if (colours() == 3 ? bits_ != 8 && bits_ != 16
                       : !(small || bits_ == 8 || (bits_ == 16 && photometric_ != PHOTOMETRIC_PALETTE)))
      refuse("of ", bits_, " bits a sample");
    if (small && samples_ != 1) refuse("of ", bits_, " bits a sample with ", samples_, " samples a pixel");
    if (samples_ < colours() || samples_ > colours() + kMostExtra)
      refuse("of ", samples_, " samples a pixel in this colour space");
    if (!TIFFIsCODECConfigured(compression_)) refuse("with compression ", compression_);
    if (photometric_ == PHOTOMETRIC_PALETTE) read_palette();
    if (photometric_ == PHOTOMETRIC_YCBCR) TIFFSetField(file_.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
  }

  /// Strips or tiles that the file does not hold, or that take much more memory than the picture and the file.
  void check_extent() {
    const std::uint64_t size = source_.bytes.size();
    // In double: products of four numbers of the header. 8 bytes a pixel (RGB and alpha of 16 bits) fit in one strip or
    // tile, rounded up to whole tiles; tiles of usual sizes fit for themselves.
    const double most = std::max({kUsualTile, 3.0 * 3 * width_ * height_, 64.0 * static_cast<double>(size)});
    const std::uint32_t rows = rows_per_chunk(), columns = TIFFIsTiled(file_.get()) ? tile_width_ : width_;
    const int samples = planar_ == PLANARCONFIG_SEPARATE ? 1 : samples_;
    const double bytes = static_cast<double>(rows) * columns * samples * bits_ / 8;
    FROST_CHECK(bytes <= most, "the tiff file is corrupt (", TIFFIsTiled(file_.get()) ? "its tiles are" : "a strip is",
                " of ", columns, " x ", rows, " pixels of ", samples * bits_, " bits)");
    const std::uint32_t count = TIFFIsTiled(file_.get()) ? TIFFNumberOfTiles(file_.get()) : TIFFNumberOfStrips(file_.get());
    FROST_CHECK(count > 0 && count <= size, "the tiff file is corrupt (its strips)");
    // Many large tiles, each of which holds a little of a narrow picture, can be the same few bytes of the file.
    FROST_CHECK(count * bytes <= 16 * most, "the tiff file is corrupt (", count, " tiles or strips of ", columns, " x ",
                rows, " pixels)");
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t at = TIFFGetStrileOffset(file_.get(), i), length = TIFFGetStrileByteCount(file_.get(), i);
      FROST_CHECK(at < size && length > 0 && length <= size - at, "the tiff file is cut off");
    }
  }

  /// Goes through the whole picture; `image` null: what is wrong is found all the same. What a codec only warns of is
  /// corruption to a picture that is kept.
  void read(Image* image, std::string& corruption) {
    source_.error.clear(), source_.warning.clear();  // of the directory, which has been read
    const int planes = planar_ == PLANARCONFIG_SEPARATE ? colours() : 1;
    for (int plane = 0; plane < planes; ++plane) {
      if (TIFFIsTiled(file_.get()))
        read_tiles(image, plane, planes);
      else
        read_strips(image, plane, planes);
    }
    check(source_.error.empty());  // some codecs call a corrupt row read
    if (!source_.warning.empty()) corruption = source_.warning;
  }

 private:
  static constexpr int kMostExtra = 4;           // alpha and the like
  static constexpr double kUsualTile = 1 << 24;  // bytes
  struct Closer {
    void operator()(TIFF* file) const { TIFFClose(file); }
  };

  void read_palette() {
    std::array<std::uint16_t*, 3> map{};
    FROST_CHECK(TIFFGetField(file_.get(), TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]) == 1,
                "the tiff file is corrupt (no palette)");
    const std::size_t count = std::size_t{1} << bits_;
    // Entries have 16 bits; some writers put 8 there.
    const bool narrow = std::ranges::all_of(
        map, [&](const std::uint16_t* m) { return std::all_of(m, m + count, [](int v) { return v < 256; }); });
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t i = 0; i < count; ++i)
        palette_[i][2 - c] = static_cast<std::uint8_t>(narrow ? map[c][i] : map[c][i] >> 8);
  }

  void check(bool good) const {
    FROST_CHECK(good, "cannot decode tiff: ", source_.error.empty() ? "corrupt data" : source_.error);
  }
  void take(std::uint32_t tag, std::uint32_t& value) { check(TIFFGetField(file_.get(), tag, &value) == 1); }
  static int clamped(std::uint32_t side) { return static_cast<int>(std::min<std::uint32_t>(side, 0x7fffffff)); }
  int colours() const { return photometric_ == PHOTOMETRIC_RGB || photometric_ == PHOTOMETRIC_YCBCR ? 3 : 1; }

  std::uint32_t rows_per_chunk() const {
    if (TIFFIsTiled(file_.get())) return tile_height_;
    std::uint32_t rows = 0;
    TIFFGetFieldDefaulted(file_.get(), TIFFTAG_ROWSPERSTRIP, &rows);
    return std::min(rows, height_);
  }

  void read_strips(Image* image, int plane, int planes) {
    std::vector<std::uint8_t> row(buffer_bytes(TIFFScanlineSize64(file_.get()), width_));
    for (int y = 0; y < height(); ++y) {
      check(TIFFReadScanline(file_.get(), row.data(), static_cast<std::uint32_t>(y), static_cast<std::uint16_t>(plane)) ==
            1);
      if (image) put(row.data(), image->at(y, 0), image->width, plane, planes);
    }
  }
  void read_tiles(Image* image, int plane, int planes) {
    const auto row_bytes = static_cast<std::size_t>(TIFFTileRowSize64(file_.get()));
    const std::size_t bytes = buffer_bytes(TIFFTileRowSize64(file_.get()), tile_width_) * tile_height_;
    check(TIFFTileSize64(file_.get()) <= bytes);
    std::vector<std::uint8_t> tile(bytes);
    for (std::uint32_t y0 = 0; y0 < height_; y0 += tile_height_)
      for (std::uint32_t x0 = 0; x0 < width_; x0 += tile_width_) {
        check(TIFFReadTile(file_.get(), tile.data(), x0, y0, 0, static_cast<std::uint16_t>(plane)) >= 0);
        if (!image) continue;
        const std::uint32_t rows = std::min(tile_height_, height_ - y0), columns = std::min(tile_width_, width_ - x0);
        for (std::uint32_t y = 0; y < rows; ++y)
          put(tile.data() + y * row_bytes, image->at(static_cast<int>(y0 + y), static_cast<int>(x0)),
              static_cast<int>(columns), plane, planes);
      }
  }
  /// libtiff's size of a row, which must be what the header's numbers make of it.
  std::size_t buffer_bytes(std::uint64_t row_bytes, std::uint32_t pixels) const {
    const std::uint64_t samples = planar_ == PLANARCONFIG_SEPARATE ? 1 : samples_;
    check(row_bytes >= (samples * pixels * bits_ + 7) / 8 && row_bytes <= samples * pixels * 2 + 8);
    return static_cast<std::size_t>(row_bytes);
  }

  /// Sample `i` of a row as 8 bits: of 16 the upper 8 (libtiff gives them in the machine's order).
  unsigned sample(const std::uint8_t* row, std::size_t i) const {
    if (bits_ == 8) return row[i];
    if (bits_ == 16) {
      std::uint16_t value;
      std::memcpy(&value, row + 2 * i, 2);
      return value >> 8;
    }
    const std::size_t bit = i * bits_;
    return row[bit / 8] >> (8 - bits_ - bit % 8) & ((1u << bits_) - 1);
  }
  void put(const std::uint8_t* row, std::uint8_t* out, int count, int plane, int planes) const {
    const std::size_t step = planar_ == PLANARCONFIG_SEPARATE ? 1 : samples_;
    const unsigned most = (1u << std::min<unsigned>(bits_, 8)) - 1;
    for (std::size_t x = 0; x < static_cast<std::size_t>(count); ++x, out += 3) {
      if (colours() == 3) {
        for (std::size_t c = 0; c < 3; ++c) {
          if (planes == 1) out[2 - c] = static_cast<std::uint8_t>(sample(row, x * step + c));
          if (planes == 3 && static_cast<int>(c) == plane) out[2 - c] = static_cast<std::uint8_t>(sample(row, x));
        }
        continue;
      }
      const unsigned value = sample(row, x * step);
      if (photometric_ == PHOTOMETRIC_PALETTE) {
        std::copy_n(palette_[value].data(), 3, out);
      } else {
        const unsigned grey = value * 255 / most;
        out[0] = out[1] = out[2] = static_cast<std::uint8_t>(photometric_ == PHOTOMETRIC_MINISWHITE ? 255 - grey : grey);
      }
    }
  }

  Source source_;
  std::unique_ptr<TIFF, Closer> file_;
  std::uint32_t width_ = 0, height_ = 0, tile_width_ = 0, tile_height_ = 0;
  std::uint16_t bits_ = 1, samples_ = 1, planar_ = PLANARCONFIG_CONTIG, sample_format_ = SAMPLEFORMAT_UINT;
  std::uint16_t compression_ = COMPRESSION_NONE, orientation_ = 1, photometric_ = 0;
  std::array<std::array<std::uint8_t, 3>, 256> palette_{};  // B G R
};

}  // namespace

Header read_header(Bytes bytes) {
  Header header{.state = Header::ok, .info = {.format = "tiff"}};
  const Reader file(bytes);
  header.info.width = file.width();
  header.info.height = file.height();
  header.info.orientation = file.orientation();
  return header;
}

void check(Bytes bytes, std::string& corruption) {
  Reader file(bytes);
  file.check_kind();
  file.check_extent();
  file.read(nullptr, corruption);
}

Image decode(Bytes bytes, std::string& corruption) {
  Reader file(bytes);
  file.check_kind();
  file.check_extent();
  Image image(file.height(), file.width());
  file.read(&image, corruption);
  return image;
}

std::vector<std::uint8_t> encode(const Image& image) {
  std::vector<std::uint8_t> out = {'I', 'I', 42, 0, 8, 0, 0, 0};
  const auto put = [&](std::uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> 8 * i));
  };
  constexpr std::uint32_t kShort = 3, kLong = 4, kEntries = 10, kBitsAt = 8 + 2 + 12 * kEntries + 4, kPixelsAt = kBitsAt + 6;
  const auto entry = [&](std::uint32_t tag, std::uint32_t type, std::uint32_t count, std::uint32_t value) {
    put(tag, 2), put(type, 2), put(count, 4), put(value, 4);
  };
  const auto width = static_cast<std::uint32_t>(image.width), height = static_cast<std::uint32_t>(image.height);
  put(kEntries, 2);
  entry(TIFFTAG_IMAGEWIDTH, kLong, 1, width);
  entry(TIFFTAG_IMAGELENGTH, kLong, 1, height);
  entry(TIFFTAG_BITSPERSAMPLE, kShort, 3, kBitsAt);
  entry(TIFFTAG_COMPRESSION, kShort, 1, COMPRESSION_NONE);
  entry(TIFFTAG_PHOTOMETRIC, kShort, 1, PHOTOMETRIC_RGB);
  entry(TIFFTAG_STRIPOFFSETS, kLong, 1, kPixelsAt);
  entry(TIFFTAG_SAMPLESPERPIXEL, kShort, 1, 3);
  entry(TIFFTAG_ROWSPERSTRIP, kLong, 1, height);
  entry(TIFFTAG_STRIPBYTECOUNTS, kLong, 1, 3 * width * height);
  entry(TIFFTAG_PLANARCONFIG, kShort, 1, PLANARCONFIG_CONTIG);
  put(0, 4);  // no other page
  for (int i = 0; i < 3; ++i) put(8, 2);
  const std::size_t at = out.size();
  out.resize(at + image.pixels.size());
  swap_red_blue(image.pixels.data(), out.data() + at, image.pixels.size() / 3);
  return out;
}

}  // namespace frost::image::tiff
