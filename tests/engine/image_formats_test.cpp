#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <numeric>
#include <set>

#include "engine/image/codec.h"
#include "engine/image/color.h"
#include "kernels/error.h"
#include "tests/golden/images.h"
#include "tests/picture_files.h"

// What each format's reader makes of kinds of files that other programs write, all made here.
using namespace frost;
using namespace frost::testing;
using golden::worst;

namespace {

std::string error_of(const Bytes& bytes) {
  try {
    (void)decode_image(bytes, "x");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
std::string probe_error(const Bytes& bytes, std::string* warning = nullptr) {
  const auto path = scratch_file("probe");
  spill(path, bytes);
  std::string text;
  try {
    (void)probe_image(path, warning);
  } catch (const Error& e) {
    text = e.what();
    REQUIRE(text.starts_with(path.string() + ": "));
    text.replace(0, path.string().size(), "x");
  }
  if (warning && !warning->empty()) warning->replace(0, path.string().size(), "x");
  std::filesystem::remove(path);
  return text;
}
std::string warning_of(const Bytes& bytes) {
  std::string warning;
  try {
    (void)decode_image(bytes, "x", &warning);
  } catch (const Error&) {  // error_of says it
  }
  return warning;
}

/// MB that decoding takes beside what is there before, in a process of its own.
double decoding_mb(const Bytes& bytes) {
  double before = 0;
  std::ifstream("/proc/self/statm") >> before >> before;  // pages in memory
  const pid_t child = fork();
  if (child == 0) {
    (void)error_of(bytes);
    _exit(0);
  }
  int status = 0;
  rusage usage{};
  REQUIRE(wait4(child, &status, 0, &usage) == child);
  REQUIRE(status == 0);
  return static_cast<double>(usage.ru_maxrss) / 1024 - before * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

/// Deterministic samples of so many bits, row by row.
std::vector<unsigned> samples(std::size_t count, int bits, const std::string& seed) {
  const golden::Fill fill(seed);
  std::vector<unsigned> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<unsigned>(fill.u(i) * static_cast<double>(1u << bits));
  return out;
}
/// Packed, first sample in the upper bits; 16 bits big-endian or as this machine has them.
Bytes packed(const std::vector<unsigned>& row, int bits, bool big_endian) {
  Bytes out((row.size() * static_cast<std::size_t>(bits) + 7) / 8);
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (bits == 16) {
      out[2 * i] = static_cast<std::uint8_t>(big_endian ? row[i] >> 8 : row[i]);
      out[2 * i + 1] = static_cast<std::uint8_t>(big_endian ? row[i] : row[i] >> 8);
    } else {
      const std::size_t bit = i * static_cast<std::size_t>(bits);
      out[bit / 8] = static_cast<std::uint8_t>(out[bit / 8] | row[i] << (8 - static_cast<std::size_t>(bits) - bit % 8));
    }
  }
  return out;
}
std::uint8_t as_byte(unsigned sample, int bits) {
  return static_cast<std::uint8_t>(bits == 16 ? sample >> 8 : sample * 255 / ((1u << bits) - 1));
}

/// Pixels of `channels` samples as a picture: 1 or 2 are grey (and alpha), 3 or 4 red, green, blue (and alpha).
Image picture_of(const std::vector<unsigned>& all, int height, int width, int channels, int bits) {
  Image image(height, width);
  for (int i = 0; i < height * width; ++i)
    for (int c = 0; c < 3; ++c)
      image.pixels[static_cast<std::size_t>(3 * i + 2 - c)] =
          as_byte(all[static_cast<std::size_t>(i * channels + (channels >= 3 ? c : 0))], bits);
  return image;
}

/// What a PNG writer does to a row before it is compressed.
Bytes filtered(int filter, const Bytes& row, const Bytes& above, std::size_t step) {
  Bytes out = {static_cast<std::uint8_t>(filter)};
  for (std::size_t i = 0; i < row.size(); ++i) {
    const int a = i >= step ? row[i - step] : 0, b = above.empty() ? 0 : above[i],
              c = i >= step && !above.empty() ? above[i - step] : 0;
    const int p = a + b - c, pa = std::abs(p - a), pb = std::abs(p - b), pc = std::abs(p - c);
    const int paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
    const int guess[5] = {0, a, b, (a + b) / 2, paeth};
    out.push_back(static_cast<std::uint8_t>(row[i] - guess[filter]));
  }
  return out;
}

/// All rows of one (part of a) picture, with filters in turn.
Bytes filtered_rows(const std::vector<unsigned>& all, int height, int width, int channels, int bits) {
  Bytes out, above;
  const std::size_t step = std::max<std::size_t>(1, static_cast<std::size_t>(channels * bits / 8));
  for (int y = 0; y < height; ++y) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(y) * width * channels;
    const Bytes row = packed({first, first + static_cast<std::ptrdiff_t>(width) * channels}, bits, true);
    put(out, filtered(y % 5, row, above, step));
    above = row;
  }
  return out;
}

}  // namespace

TEST_CASE("png: every kind of pixel, every filter, interlaced or not") {
  constexpr int kHeight = 11, kWidth = 13;
  const std::pair<int, int> channels_of[] = {{0, 1}, {2, 3}, {3, 1}, {4, 2}, {6, 4}};
  for (const auto& [colour, channels] : channels_of)
    for (const int bits : {1, 2, 4, 8, 16}) {
      if ((colour != 0 && colour != 3 && bits < 8) || (colour == 3 && bits == 16)) continue;
      CAPTURE(colour);
      CAPTURE(bits);
      const auto all = samples(static_cast<std::size_t>(kHeight * kWidth * channels), bits, "png");
      Image expected = picture_of(all, kHeight, kWidth, channels, bits);
      PngKind kind{.width = kWidth, .height = kHeight, .bits = bits, .colour = colour};
      if (colour == 3) {
        for (int i = 0; i < 1 << bits; ++i)
          for (const int v : {i, 255 - i, 7 * i}) kind.palette.push_back(static_cast<std::uint8_t>(v));
        for (std::size_t i = 0; i < all.size(); ++i)
          for (std::size_t c = 0; c < 3; ++c) expected.pixels[3 * i + 2 - c] = kind.palette[3 * all[i] + c];
      }
      const Bytes plain = png_of(kind, filtered_rows(all, kHeight, kWidth, channels, bits));
      CHECK(worst(decode_image(plain, "x"), expected) == 0);
      CHECK(probe_error(plain) == "");
      // Adam7: seven smaller pictures, one after another.
      Bytes rows;
      const int x0[] = {0, 4, 0, 2, 0, 1, 0}, y0[] = {0, 0, 4, 0, 2, 0, 1}, dx[] = {8, 8, 4, 4, 2, 2, 1},
                dy[] = {8, 8, 8, 4, 4, 2, 2};
      for (int pass = 0; pass < 7; ++pass) {
        std::vector<unsigned> part;
        int height = 0;
        for (int y = y0[pass]; y < kHeight; y += dy[pass], ++height)
          for (int x = x0[pass]; x < kWidth; x += dx[pass])
            for (int c = 0; c < channels; ++c)
              part.push_back(all[static_cast<std::size_t>((y * kWidth + x) * channels + c)]);
        if (!part.empty())
          put(rows, filtered_rows(part, height, static_cast<int>(part.size()) / height / channels, channels, bits));
      }
      kind.interlaced = 1;
      CHECK(worst(decode_image(png_of(kind, rows), "x"), expected) == 0);
    }
  const PngKind indexed{.width = 2, .height = 1, .bits = 8, .colour = 3};
  CHECK(error_of(png_of(indexed, {0, 0, 1})) == "x: the png file is corrupt (IDAT: Missing PLTE before IDAT)");
}

TEST_CASE("png: a data chunk may be split anywhere") {
  const Image image = golden::noise(9, 7, "split");
  const Bytes whole = encoded("png", image);
  const auto at = static_cast<std::size_t>(
      std::search(whole.begin(), whole.end(), std::begin("IDAT"), std::begin("IDAT") + 4) - whole.begin());
  const Bytes head(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at) - 4);
  Bytes data(whole.begin() + static_cast<std::ptrdiff_t>(at) + 4, whole.end() - 16);
  Bytes split = head;
  for (std::size_t i = 0; i < data.size(); i += 5)
    put_chunk(split, "IDAT",
              {data.begin() + static_cast<std::ptrdiff_t>(i),
               data.begin() + static_cast<std::ptrdiff_t>(std::min(i + 5, data.size()))});
  Bytes mixed = split;
  put_chunk(split, "IEND", {});
  CHECK(worst(decode_image(split, "x"), image) == 0);
  put_chunk(mixed, "tEXt", {'a', 0, 'b'});
  put_chunk(mixed, "IDAT", {1});
  put_chunk(mixed, "IEND", {});
  CHECK(worst(decode_image(mixed, "x"), image) == 0);  // the picture is whole: what follows it does not count
}

TEST_CASE("png: texts and profiles take no memory, wherever they stand and however well they pack") {
  const Image image = golden::noise(9, 7, "texts");
  const Bytes whole = encoded("png", image);
  constexpr std::size_t kHead = 8 + 25;  // the signature and the header
  Bytes packed(compressBound(7 << 20));
  uLongf size = packed.size();
  const Bytes flat(7 << 20);
  compress2(packed.data(), &size, flat.data(), flat.size(), 9);
  packed.resize(size);
  const auto named = [&](const std::string& head) {
    Bytes body;
    put(body, head), put(body, packed);
    return body;
  };
  const std::pair<const char*, Bytes> kinds[] = {{"zTXt", named({'a', 0, 0})},
                                                 {"iTXt", named({'a', 0, 1, 0, 0, 0})},
                                                 {"iCCP", named({'a', 0, 0})},
                                                 {"prVt", Bytes(7 << 20)}};
  for (const auto& [type, body] : kinds)
    for (const bool after : {false, true}) {
      CAPTURE(type);
      CAPTURE(after);
      Bytes bytes(whole.begin(), after ? whole.end() - 12 : whole.begin() + kHead);
      for (int i = 0; i < (body.size() < (1 << 20) ? 40 : 1); ++i) put_chunk(bytes, type, body);
      bytes.insert(bytes.end(), after ? whole.end() - 12 : whole.begin() + kHead, whole.end());
      CHECK(worst(decode_image(bytes, "x"), image) == 0);
      CHECK(decoding_mb(bytes) < 40);                      // and 280 where they were unpacked
      bytes[after ? bytes.size() - 20 : kHead + 20] ^= 1;  // a checksum counts all the same
      CHECK(error_of(bytes) == "x: the png file is corrupt (checksum of a chunk)");
    }
}

TEST_CASE("the memory that decoding takes is seen") { CHECK(decoding_mb(encode_jpeg(Image(3000, 4000, 90), 80)) > 20); }

TEST_CASE("png: the orientation may stand before the pixels or after them; long sides") {
  const Image image = golden::noise(9, 7, "turned");
  const Bytes whole = encoded("png", image);
  constexpr std::ptrdiff_t kHead = 8 + 25;
  for (const int orientation : {1, 3, 6, 8})
    for (const bool after : {false, true}) {
      Bytes exif = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0};
      exif[19] = static_cast<std::uint8_t>(orientation);
      const auto at = after ? whole.end() - 12 : whole.begin() + kHead;
      Bytes bytes(whole.begin(), at);
      put_chunk(bytes, "eXIf", exif);
      bytes.insert(bytes.end(), at, whole.end());
      const Image got = decode_image(bytes, "x");
      CHECK(got.height == (orientation >= 5 ? 7 : 9));
      const std::uint8_t* corner = orientation == 1   ? got.at(0, 0)
                                   : orientation == 3 ? got.at(8, 6)
                                   : orientation == 6 ? got.at(0, 8)
                                                      : got.at(6, 0);
      CHECK(std::equal(corner, corner + 3, image.at(0, 0)));
    }
  const PngKind wide{.width = 1 << 20, .height = 2, .colour = 0}, high{.width = 2, .height = 1 << 20, .colour = 0};
  CHECK(decode_image(png_of(wide, Bytes((std::size_t{1} << 21) + 2), 9), "x").width == 1 << 20);
  CHECK(decode_image(png_of(high, Bytes(std::size_t{3} << 20), 9), "x").height == 1 << 20);
}

namespace {
/// A BMP by hand. `masks`: for compression 3; `colours`: B G R 0 each.
Bytes bmp_of(int width, int height, int bits, int compression, const Bytes& pixels, const Bytes& colours = {},
             const std::vector<std::uint32_t>& masks = {}, bool os2 = false) {
  Bytes out, info;
  if (os2) {
    put(info, 12, 4), put(info, static_cast<std::uint64_t>(width), 2), put(info, static_cast<std::uint64_t>(height), 2);
    put(info, 1, 2), put(info, static_cast<std::uint64_t>(bits), 2);
  } else {
    put(info, 40, 4), put(info, static_cast<std::uint32_t>(width), 4), put(info, static_cast<std::uint32_t>(height), 4);
    put(info, 1, 2), put(info, static_cast<std::uint64_t>(bits), 2), put(info, static_cast<std::uint64_t>(compression), 4);
    put(info, 0, 4), put(info, 0, 4), put(info, 0, 4), put(info, colours.size() / 4, 4), put(info, 0, 4);
  }
  for (const std::uint32_t mask : masks) put(info, mask, 4);
  put(info, colours);
  put(out, "BM"), put(out, 14 + info.size() + pixels.size(), 4), put(out, 0, 4), put(out, 14 + info.size(), 4);
  put(out, info), put(out, pixels);
  return out;
}
const Bytes kFour = {10, 20, 30, 0, 40, 50, 60, 0, 70, 80, 90, 0, 1, 2, 3, 0};  // colours
/// Of indices into kFour, from the top.
Bytes looked_up(const std::vector<int>& indices) {
  Bytes out;
  for (const int i : indices) out.insert(out.end(), kFour.begin() + 4 * i, kFour.begin() + 4 * i + 3);
  return out;
}
}  // namespace

TEST_CASE("bmp: bits, masks, both directions, both ages") {
  const Bytes expected = looked_up({0, 1, 2, 3, 2, 1});  // 3 x 2
  CHECK(decode_image(bmp_of(3, 2, 8, 0, {3, 2, 1, 0, 0, 1, 2, 0}, kFour), "x").pixels == expected);
  CHECK(decode_image(bmp_of(3, -2, 8, 0, {0, 1, 2, 0, 3, 2, 1, 0}, kFour), "x").pixels == expected);
  CHECK(decode_image(bmp_of(3, 2, 8, 0, {3, 2, 1, 0, 0, 1, 2}, kFour), "x").pixels == expected);  // without its last padding
  CHECK(decode_image(bmp_of(3, 2, 4, 0, {0x32, 0x10, 0, 0, 0x01, 0x20, 0, 0}, kFour), "x").pixels == expected);
  CHECK(decode_image(bmp_of(3, 1, 1, 0, {0xa0, 0, 0, 0}, kFour), "x").pixels == looked_up({1, 0, 1}));
  const Bytes three = {10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3};
  CHECK(decode_image(bmp_of(3, 2, 8, 0, {3, 2, 1, 0, 0, 1, 2, 0}, three, {}, true), "x").pixels == expected);
  CHECK(decode_image(bmp_of(1, 1, 16, 0, {0x1f, 0x7c, 0, 0}), "x").pixels == Bytes{248, 0, 248});  // 5 5 5
  CHECK(decode_image(bmp_of(1, 1, 16, 3, {0xe0, 0x07, 0, 0}, {}, {0xf800, 0x7e0, 0x1f}), "x").pixels ==
        Bytes{0, 252, 0});  // 5 6 5
  CHECK(decode_image(bmp_of(1, 1, 32, 3, {0x1f, 0x08, 0, 0}, {}, {0xf800, 0x7e0, 0x1f}), "x").pixels == Bytes{255, 0, 8});
  CHECK(decode_image(bmp_of(1, 1, 32, 0, {1, 2, 3, 99}), "x").pixels == Bytes{1, 2, 3});
  CHECK(decode_image(bmp_of(1, 1, 32, 3, {99, 1, 2, 3}, {}, {0xff00, 0xff0000, 0xff000000}), "x").pixels == Bytes{3, 2, 1});
}

TEST_CASE("bmp: run lengths of 8 and 4 bits") {
  const Bytes expected = looked_up({0, 1, 2, 3, 2, 1, 1, 1, 1, 1});  // 5 x 2
  const Bytes bytes = {5, 1, 0, 0, 0, 5, 0, 1, 2, 3, 2, 0, 0, 1};    // a run, end of row, five one by one (padded), end
  CHECK(decode_image(bmp_of(5, 2, 8, 1, bytes, kFour), "x").pixels == expected);
  CHECK(decode_image(bmp_of(5, 2, 8, 1, {5, 1, 0, 0, 0, 5, 0, 1, 2, 3, 2, 0}, kFour), "x").pixels == expected);  // no end
  const Bytes nibbles = {5, 0x11, 0, 0, 0, 5, 0x01, 0x23, 0x20, 0, 0, 1};
  CHECK(decode_image(bmp_of(5, 2, 4, 2, nibbles, kFour), "x").pixels == expected);
  CHECK(decode_image(bmp_of(4, 1, 4, 2, {4, 0x12, 0, 1}, kFour), "x").pixels == looked_up({1, 2, 1, 2}));
  // A jump of two to the right and one row up; what is jumped over has the first colour.
  CHECK(decode_image(bmp_of(3, 2, 8, 1, {1, 3, 0, 2, 1, 1, 1, 2, 0, 1}, kFour), "x").pixels ==
        looked_up({0, 0, 2, 3, 0, 0}));
  CHECK(decode_image(bmp_of(2, 1, 8, 1, {200, 3, 200, 2, 0, 1}, kFour), "x").pixels == looked_up({3, 3}));  // too long
  for (std::size_t left = 0; left < 12; ++left)
    CHECK(error_of(bmp_of(5, 2, 8, 1, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(std::min(left, 8ul))},
                          kFour)) == "x: the bmp file is cut off");
  CHECK(error_of(bmp_of(3, -2, 8, 1, bytes, kFour)).find("are not read") != std::string::npos);
  CHECK(error_of(bmp_of(3, 2, 24, 5, bytes)) == "x: bmp files with PNG data are not read");
}

TEST_CASE("webp: with and without loss, alpha dropped, turned by EXIF") {
  const Image image = golden::noise(20, 30, "webp");
  const Bytes plain = webp_lossless(image);
  CHECK(worst(decode_image(plain, "x"), image) == 0);
  CHECK(probe_error(plain) == "");
  std::uint8_t* data = nullptr;
  const Image smooth = golden::smooth(40, 60);
  std::size_t size = WebPEncodeBGR(smooth.pixels.data(), 60, 40, 180, 95, &data);
  CHECK(worst(decode_image(Bytes(data, data + size), "x"), smooth) <= 12);
  WebPFree(data);
  Bytes bgra;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    bgra.insert(bgra.end(), image.pixels.begin() + static_cast<std::ptrdiff_t>(i),
                image.pixels.begin() + static_cast<std::ptrdiff_t>(i) + 3);
    bgra.push_back(static_cast<std::uint8_t>(1 + i % 250));  // not clear: such colours may be lost
  }
  size = WebPEncodeLosslessBGRA(bgra.data(), 30, 20, 120, &data);
  CHECK(worst(decode_image(Bytes(data, data + size), "x"), image) == 0);
  WebPFree(data);
  for (const bool prefixed : {false, true})
    for (const int orientation : {1, 2, 3, 6, 8}) {
      Bytes exif = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0};
      exif[19] = static_cast<std::uint8_t>(orientation);
      Bytes segment;
      if (prefixed) put(segment, std::string("Exif\0\0", 6));
      put(segment, exif);
      const Image got = decode_image(webp_with_exif(plain, 30, 20, segment), "x");
      CHECK(got.height == (orientation >= 5 ? 30 : 20));
      const int y = orientation == 3 ? 19 : 0, x = orientation == 2 || orientation == 3 ? 29 : 0;
      // Where the stored upper left corner is now; 6 turns it to the right, 8 to the left.
      const std::uint8_t* corner = orientation == 6 ? got.at(0, 19) : orientation == 8 ? got.at(29, 0) : got.at(y, x);
      CHECK(std::equal(corner, corner + 3, image.at(0, 0)));
    }
  CHECK(error_of(webp_with_exif(plain, 30, 20, {}, true)) == "x: animated webp files are not read");
}

TEST_CASE("tiff: every kind of pixel that is read") {
  constexpr int kHeight = 9, kWidth = 11;
  struct Row {
    const char* name;
    TiffKind kind;
  };
  const TiffKind base{.width = kWidth, .height = kHeight};
  const auto kind = [&](auto change) {
    TiffKind k = base;
    change(k);
    return k;
  };
  const std::vector<Row> table = {
      {"rgb", base},
      {"rgb 16", kind([](auto& k) { k.bits = 16; })},
      {"rgba", kind([](auto& k) { k.samples = 4, k.extra = EXTRASAMPLE_UNASSALPHA; })},
      {"rgba 16", kind([](auto& k) { k.samples = 4, k.extra = EXTRASAMPLE_ASSOCALPHA, k.bits = 16; })},
      {"planes", kind([](auto& k) { k.planar = PLANARCONFIG_SEPARATE; })},
      {"planes 16", kind([](auto& k) { k.planar = PLANARCONFIG_SEPARATE, k.bits = 16; })},
      {"grey", kind([](auto& k) { k.samples = 1, k.photometric = PHOTOMETRIC_MINISBLACK; })},
      {"grey 16", kind([](auto& k) { k.samples = 1, k.photometric = PHOTOMETRIC_MINISBLACK, k.bits = 16; })},
      {"grey alpha",
       kind([](auto& k) { k.samples = 2, k.photometric = PHOTOMETRIC_MINISBLACK, k.extra = EXTRASAMPLE_UNASSALPHA; })},
      {"grey 4", kind([](auto& k) { k.samples = 1, k.photometric = PHOTOMETRIC_MINISBLACK, k.bits = 4; })},
      {"two-valued", kind([](auto& k) {
         k.samples = 1, k.photometric = PHOTOMETRIC_MINISBLACK, k.bits = 1, k.compression = COMPRESSION_CCITTFAX4;
       })},
      {"white is 0", kind([](auto& k) { k.samples = 1, k.photometric = PHOTOMETRIC_MINISWHITE; })},
      {"palette", kind([](auto& k) { k.samples = 1, k.photometric = PHOTOMETRIC_PALETTE; })},
      {"palette 4", kind([](auto& k) { k.samples = 1, k.photometric = PHOTOMETRIC_PALETTE, k.bits = 4; })},
      {"plain", kind([](auto& k) { k.compression = COMPRESSION_NONE; })},
      {"deflate", kind([](auto& k) { k.compression = COMPRESSION_ADOBE_DEFLATE; })},
      {"packbits", kind([](auto& k) { k.compression = COMPRESSION_PACKBITS; })},
  };
  for (const Row& row : table) {
    CAPTURE(row.name);
    TiffKind k = row.kind;
    const auto all = samples(static_cast<std::size_t>(kHeight * kWidth * k.samples), k.bits, row.name);
    Image expected = picture_of(all, kHeight, kWidth, k.samples, k.bits);
    Bytes rows;
    if (k.planar == PLANARCONFIG_SEPARATE) {
      for (int c = 0; c < 3; ++c) {
        std::vector<unsigned> plane;
        for (std::size_t i = static_cast<std::size_t>(c); i < all.size(); i += 3) plane.push_back(all[i]);
        put(rows, packed(plane, k.bits, false));
      }
    } else {
      for (int y = 0; y < kHeight; ++y) {
        const auto first = all.begin() + static_cast<std::ptrdiff_t>(y) * kWidth * k.samples;
        put(rows, packed({first, first + kWidth * k.samples}, k.bits, false));
      }
    }
    if (k.photometric == PHOTOMETRIC_MINISWHITE)
      for (auto& v : expected.pixels) v = static_cast<std::uint8_t>(255 - v);
    if (k.photometric == PHOTOMETRIC_PALETTE) {
      const std::size_t n = std::size_t{1} << k.bits;
      k.palette.resize(3 * n);
      for (std::size_t i = 0; i < 3 * n; ++i) k.palette[i] = static_cast<std::uint16_t>(i * 257 * 5);
      for (std::size_t i = 0; i < all.size(); ++i)
        for (std::size_t c = 0; c < 3; ++c)
          expected.pixels[3 * i + 2 - c] = static_cast<std::uint8_t>(k.palette[c * n + all[i]] >> 8);
    }
    const Bytes file = tiff_of(k, rows);
    CHECK(worst(decode_image(file, "x"), expected) == 0);
    CHECK(probe_error(file) == "");
  }
}

TEST_CASE("tiff: tiles, JPEG inside, pages, the orientation tag, and what is not read") {
  const Image image = golden::noise(9, 11, "tiff"), smooth = golden::smooth(32, 48);
  TiffKind tiled = rgb_kind(image);
  tiled.tile = 16;
  Bytes rows;
  for (int y = 0; y < 16; ++y) {  // the picture in its corner
    const Image padded = [&] {
      Image row(1, 16);
      if (y < 9) std::copy_n(image.at(y, 0), 33, row.at(0, 0));
      return row;
    }();
    put(rows, rgb_rows(padded));
  }
  CHECK(worst(decode_image(tiff_of(tiled, rows), "x"), image) == 0);
  TiffKind jpeg = rgb_kind(smooth);
  jpeg.compression = COMPRESSION_JPEG;
  jpeg.tile = 48;
  Bytes square = rgb_rows(smooth);
  square.resize(48 * 48 * 3);
  CHECK(worst(decode_image(tiff_of(jpeg, square), "x"), smooth) <= 40);
  CHECK(worst(decode_image(tiff_of(rgb_kind(image), rgb_rows(image), 3), "x"), image) == 0);  // the first page
  for (const int orientation : {1, 2, 3, 4, 5, 6, 7, 8}) {
    TiffKind turned = rgb_kind(image);
    turned.orientation = orientation;
    const Image got = decode_image(tiff_of(turned, rgb_rows(image)), "x");
    CHECK(got.height == (orientation >= 5 ? 11 : 9));
    const bool right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const bool below = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    const std::uint8_t* corner = got.at(below ? got.height - 1 : 0, right ? got.width - 1 : 0);
    CHECK_MESSAGE(std::equal(corner, corner + 3, image.at(0, 0)), orientation);
  }
  const auto refusal = [&](auto change, std::size_t bytes) {
    TiffKind k = rgb_kind(image);
    change(k);
    const Bytes file = tiff_of(k, Bytes(bytes));
    CHECK(probe_error(file) == error_of(file));  // the scan says the same
    return error_of(file);
  };
  CHECK(refusal([](auto& k) { k.samples = 4, k.photometric = PHOTOMETRIC_SEPARATED; }, 396) ==
        "x: tiff files in CMYK are not read");
  CHECK(refusal([](auto& k) { k.bits = 32, k.format = SAMPLEFORMAT_IEEEFP; }, 1188) ==
        "x: tiff files of floating-point numbers are not read");
  CHECK(refusal([](auto& k) { k.bits = 16, k.format = SAMPLEFORMAT_INT; }, 594) ==
        "x: tiff files of signed numbers are not read");
  CHECK(refusal([](auto& k) { k.photometric = PHOTOMETRIC_CIELAB; }, 297) == "x: tiff files in L*a*b* are not read");
  CHECK(refusal([](auto& k) { k.bits = 32; }, 1188) == "x: tiff files of 32 bits a sample are not read");
  CHECK(refusal([](auto& k) { k.photometric = PHOTOMETRIC_YCBCR, k.compression = COMPRESSION_NONE; }, 297) ==
        "x: tiff files in YCbCr without JPEG compression are not read");
  TiffKind planes = rgb_kind(smooth);
  planes.compression = COMPRESSION_JPEG, planes.planar = PLANARCONFIG_SEPARATE, planes.rows = 8;
  const Bytes in_planes = tiff_of(planes, Bytes(smooth.pixels.size()));
  CHECK(error_of(in_planes) == "");
  const Bytes ycbcr = with_entry(in_planes, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_YCBCR);
  CHECK(error_of(ycbcr) == "x: tiff files in YCbCr in three planes are not read");
  CHECK(probe_error(ycbcr) == error_of(ycbcr));
}

TEST_CASE("pictures are written in the format of their name") {
  const Image image = golden::smooth(40, 60);
  for (const std::string ending : {"png", "bmp", "tif", "TIFF", "webp", "jpg", "JPEG"}) {
    const auto path = scratch_file("written." + ending);
    write_image(path, image);
    const std::string format = probe_image(path).format;
    CHECK(format == (ending == "TIFF" || ending == "tif" ? "tiff" : ending == "jpg" || ending == "JPEG" ? "jpeg" : ending));
    CHECK(worst(decode_image(path), image) <= (format == "jpeg" || format == "webp" ? 12 : 0));
    std::filesystem::remove(path);
  }
}

TEST_CASE("corruption of every kind in every format is found by the scan, or by decoding, or kept with a warning") {
  const Image image = golden::noise(40, 48, "corrupt");
  std::set<std::string> formats;
  int scan = 0, decode = 0, kept = 0;
  for (const CorruptImage& p : corrupt_images(image)) {
    CAPTURE(p.kind);
    CAPTURE(p.format);
    formats.insert(p.format);
    const auto path = scratch_file(p.file());
    spill(path, p.bytes);
    const std::string found = probe_error(p.bytes);
    std::string decoded;
    try {
      (void)decode_image(path);
    } catch (const Error& e) {
      decoded = e.what();
      decoded.replace(0, path.string().size(), "x");
    }
    CHECK((found.empty() == (p.found != Found::scan)));
    CHECK((decoded.empty() == (p.found == Found::kept)));
    if (p.found == Found::scan) CHECK(found == decoded);  // the scan says what decoding would say
    CHECK(found.size() < 160);
    std::string warning;
    if (p.found == Found::kept) {
      CHECK(decode_image(path, &warning).height == 40);
      CHECK(warning.starts_with(path.string() + ": "));
    }
    (p.found == Found::scan ? scan : p.found == Found::decode ? decode : kept)++;
    std::filesystem::remove(path);
  }
  CHECK(formats.size() == 5);
  CHECK(scan > 40);
  CHECK(decode == 2);
  CHECK(kept == 3);
}

TEST_CASE("a picture's memory is in proportion to its file") {
  const auto refused = [](const Bytes& bytes) {
    const std::string text = error_of(bytes);
    CHECK(text.find("is not plausible") != std::string::npos);
    CHECK(probe_error(bytes) == text);
    return text;
  };
  // A PNG of one bit a pixel, all checksums right: 26700 x 26700 in 87 kB.
  const auto flat_png = [](int side, int bits, int colour) {
    const PngKind kind{.width = side, .height = side, .bits = bits, .colour = colour};
    const auto channels = colour == 2 ? 3u : 1u;
    const std::size_t row = 1 + (static_cast<std::size_t>(side) * static_cast<std::size_t>(bits) * channels + 7) / 8;
    return png_of(kind, Bytes(row * static_cast<std::size_t>(side)), 9);
  };
  CHECK(refused(flat_png(26700, 1, 0)) == "x: image size 26700 x 26700 is not plausible: more than 178956970 pixels");
  CHECK(refused(flat_png(13000, 1, 0)).find("for a file of 2") != std::string::npos);
  Bytes short_png = flat_png(64, 8, 2);
  poke(short_png, 16, 8000, 4, true), poke(short_png, 20, 8000, 4, true);  // deflate cannot make so many bytes of it
  refused(short_png);
  // A JPEG's block takes a bit at least.
  Bytes jpeg = encode_jpeg(Image(16, 16, 90), 90);
  const Bytes frame = {0xff, 0xc0};
  const auto at = static_cast<std::size_t>(std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end()) - jpeg.begin());
  for (const auto& [height, width] : {std::pair{16380, 65500}, {4000, 4000}, {1000, 1000}}) {
    Bytes lying = jpeg;
    poke(lying, at + 5, static_cast<std::uint64_t>(height), 2, true);
    poke(lying, at + 7, static_cast<std::uint64_t>(width), 2, true);
    refused(lying);
  }
  for (const int side : {16383, 12000, 4100}) {  // VP8L codes a flat picture in a few bytes
    Bytes webp = webp_lossless(Image(16, 16, 90));
    poke(webp, 21, static_cast<std::uint64_t>(side - 1) | static_cast<std::uint64_t>(side - 1) << 14, 4);
    refused(webp);
  }
  Bytes bmp = bmp_of(20000, 20000, 8, 1, {0, 1}, kFour);
  refused(bmp);
  poke(bmp, 18, 10000, 4), poke(bmp, 22, 10000, 4);
  refused(bmp);
  CHECK(error_of(bmp_of(4000, 4000, 24, 0, Bytes(100))) == "x: the bmp file is cut off");
}

TEST_CASE("tiff: a tile's, a strip's and a row's bytes are in proportion to the picture and the file") {
  // A little-endian TIFF of one grey tile or strip, whose numbers are all the caller's.
  using Entry = std::pair<int, std::uint32_t>;
  const auto tiff = [](std::vector<Entry> entries, std::size_t data) {
    Bytes out;
    put(out, "II"), put(out, 42, 2), put(out, 8 + data, 4), put(out, Bytes(data));
    std::ranges::sort(entries);
    put(out, entries.size(), 2);
    for (const auto& [tag, value] : entries)
      put(out, static_cast<unsigned>(tag), 2), put(out, 4, 2), put(out, 1, 4), put(out, value, 4);
    put(out, 0, 4);
    return out;
  };
  const auto grey = [&](std::uint32_t side, std::uint32_t samples, std::uint32_t bits, std::vector<Entry> chunk,
                        std::size_t data = 16) {
    const std::vector<Entry> usual = {{TIFFTAG_IMAGEWIDTH, side},
                                      {TIFFTAG_IMAGELENGTH, side},
                                      {TIFFTAG_SAMPLESPERPIXEL, samples},
                                      {TIFFTAG_BITSPERSAMPLE, bits},
                                      {TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK},
                                      {TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE}};
    chunk.insert(chunk.end(), usual.begin(), usual.end());
    return tiff(chunk, data);
  };
  const auto tile = [](std::uint32_t width, std::uint32_t height) {
    return std::vector<Entry>{
        {TIFFTAG_TILEWIDTH, width}, {TIFFTAG_TILELENGTH, height}, {TIFFTAG_TILEOFFSETS, 8}, {TIFFTAG_TILEBYTECOUNTS, 16}};
  };
  const auto strip = [](std::uint32_t rows) {
    return std::vector<Entry>{{TIFFTAG_ROWSPERSTRIP, rows}, {TIFFTAG_STRIPOFFSETS, 8}, {TIFFTAG_STRIPBYTECOUNTS, 16}};
  };
  const auto refused = [](const Bytes& bytes, const std::string& cause) {
    const std::string text = error_of(bytes);
    CHECK_MESSAGE(text.find(cause) != std::string::npos, text);
    CHECK(probe_error(bytes) == text);
  };
  refused(grey(4096, 64, 16, tile(8192, 8192)), "tiff files of 64 samples a pixel in this colour space are not read");
  refused(grey(4096, 6, 8, strip(4096)), "tiff files of 6 samples a pixel in this colour space are not read");
  refused(grey(4096, 5, 16, tile(8192, 8192)), "its tiles are of 8192 x 8192 pixels of 80 bits");
  refused(grey(4096, 1, 8, tile(16384, 16384)), "its tiles are of 16384 x 16384 pixels of 8 bits");
  refused(grey(16, 1, 8, tile(8192, 8192)), "its tiles are of 8192 x 8192 pixels of 8 bits");
  refused(grey(16, 1, 8, tile(0xfffffff0, 0xfffffff0)), "tiff");  // more than 64 bits hold
  refused(grey(4096, 5, 16, strip(4096)), "a strip is of 4096 x 4096 pixels of 80 bits");
  refused(grey(4096, 5, 16, strip(0xffffffff)), "a strip is of 4096 x 4096 pixels of 80 bits");
  // Each tile may be so large, but 256 of them are 4 GiB to decode.
  refused(grey(4096, 1, 8, tile(1 << 20, 16), 1000), "256 tiles or strips of 1048576 x 16 pixels");
  // What may be: a usual tile around a small picture, one strip for the whole. Its data are zeros here.
  // Entries that nobody here reads, and that name the same 100 kB again and again.
  for (const std::uint32_t type : {1u, 4u, 12u}) {  // bytes, numbers of 32 bits, numbers of 64
    std::vector<Entry> many = strip(16);
    for (int i = 0; i < 2000; ++i) many.emplace_back(40000 + i, 8);
    Bytes bytes = grey(16, 1, 8, many, 100000);
    for (std::size_t at = 100010; at + 12 <= bytes.size(); at += 12)
      if (bytes[at] + 256 * bytes[at + 1] >= 40000)
        poke(bytes, at + 2, type, 2), poke(bytes, at + 4, type == 1 ? 100000 : type == 4 ? 25000 : 12500, 4);
    refused(bytes, "its directory's entries take 2");
    CHECK(decoding_mb(bytes) < 20);
  }
  refused(grey(16, 1, 8, tile(1024, 1024)), "cannot decode tiff: ");
  refused(grey(4096, 2, 16, strip(4096)), "cannot decode tiff: ");
  TiffKind kind = rgb_kind(Image(16, 16));
  kind.tile = 1024;
  CHECK(decode_image(tiff_of(kind, {}), "x").width == 16);
}

TEST_CASE("pictures of a known kind that is not decoded are called that") {
  for (const std::string head : {"P1\n", "P2 ", "P3\n", "P4\n", "P5\t", "P6#made by hand\n"}) {
    const std::string text = head + "2 2\n255\n0123456789ab";
    CHECK(error_of({text.begin(), text.end()}) == "x: ppm images are not supported, convert the file to JPEG or PNG");
  }
  for (const std::string text : {"P7\n2 2", "P62 2", "P6", "Portrait"})
    CHECK(error_of({text.begin(), text.end()}) == "x: not an image (unknown format)");
}

TEST_CASE("tiff: each codec's corruption is refused, or kept with a warning, by scan and decoder alike") {
  const Image image = golden::noise(61, 47, "bodies"), smooth = golden::smooth(64, 48);
  struct Row {
    std::string name;
    int compression, photometric, bits, tile;
    int told;  // of 19 places, at least; most of PackBits' bytes are pixels as they are
  };
  const Row table[] = {{"jpeg", COMPRESSION_JPEG, PHOTOMETRIC_RGB, 8, 0, 10},
                       {"jpeg ycbcr", COMPRESSION_JPEG, PHOTOMETRIC_YCBCR, 8, 0, 10},
                       {"jpeg tile", COMPRESSION_JPEG, PHOTOMETRIC_RGB, 8, 64, 10},
                       {"group 3", COMPRESSION_CCITTFAX3, PHOTOMETRIC_MINISWHITE, 1, 0, 10},
                       {"group 4", COMPRESSION_CCITTFAX4, PHOTOMETRIC_MINISWHITE, 1, 0, 10},
                       {"group 4 tile", COMPRESSION_CCITTFAX4, PHOTOMETRIC_MINISWHITE, 1, 64, 10},
                       {"lzw", COMPRESSION_LZW, PHOTOMETRIC_RGB, 8, 0, 10},
                       {"packbits", COMPRESSION_PACKBITS, PHOTOMETRIC_RGB, 8, 0, 1},
                       {"deflate", COMPRESSION_ADOBE_DEFLATE, PHOTOMETRIC_RGB, 8, 0, 10}};
  for (const Row& row : table) {
    CAPTURE(row.name);
    TiffKind k = rgb_kind(smooth);
    k.compression = row.compression, k.photometric = row.photometric, k.bits = row.bits;
    k.samples = row.bits == 1 ? 1 : 3, k.tile = static_cast<std::uint32_t>(row.tile), k.rows = 16;
    const Bytes rows = row.bits == 1 ? golden::noise(64, 64, "fax").pixels : rgb_rows(golden::noise(64, 64, "rows"));
    const Bytes seed = tiff_of(k, rows);
    CHECK(error_of(seed) == "");
    CHECK(warning_of(seed) == "");
    std::uint32_t end = 0;  // the directory stands after the data
    std::memcpy(&end, &seed[4], 4);
    int told = 0;
    for (std::size_t part = 1; part < 20; ++part) {
      Bytes bytes = seed;
      const std::size_t from = 8 + (end - 8) * part / 20;
      for (std::size_t i = from; i < from + 8; ++i) bytes[i] = static_cast<std::uint8_t>(bytes[i] ^ 0xa5);
      const std::string error = error_of(bytes), warning = warning_of(bytes);
      std::string scan_warning;
      CHECK(probe_error(bytes, &scan_warning) == error);
      CHECK(scan_warning == warning);
      CHECK((warning.empty() || warning.starts_with("x: corrupt TIFF: ")));
      CHECK((error.empty() || warning.empty()));
      told += !error.empty() || !warning.empty();
    }
    CHECK(told >= row.told);
  }
}

TEST_CASE("webp and tiff: the scan finds corruption in compressed data, wherever it is") {
  const Image image = golden::noise(61, 47, "bodies"), smooth = golden::smooth(61, 47);
  std::uint8_t* data = nullptr;
  const std::size_t size = WebPEncodeBGR(smooth.pixels.data(), 47, 61, 3 * 47, 60, &data);
  const Bytes lossy(data, data + size);
  WebPFree(data);
  TiffKind tiled{.width = 16, .height = 16, .tile = 16};
  TiffKind deflated = rgb_kind(image), planes = rgb_kind(image);
  deflated.compression = COMPRESSION_ADOBE_DEFLATE;
  planes.planar = PLANARCONFIG_SEPARATE;
  const Bytes seeds[] = {lossy, webp_lossless(image), tiff_of(tiled, rgb_rows(golden::noise(16, 16, "tile"))),
                         tiff_of(deflated, rgb_rows(image)), tiff_of(planes, rgb_rows(image))};
  int found = 0;
  for (const Bytes& seed : seeds) {
    CHECK(probe_error(seed) == "");
    for (std::size_t part = 1; part < 20; ++part) {
      Bytes bytes = seed;
      const std::size_t from = seed.size() * part / 20;
      for (std::size_t i = from; i < std::min(from + 8, bytes.size()); ++i) bytes[i] = 0xff;
      const std::string text = error_of(bytes);
      found += !text.empty();
      CHECK(probe_error(bytes) == text);  // the scan says what decoding says, corrupt or not
    }
  }
  CHECK(found > 20);
}

TEST_CASE("large pictures of small files are read" * doctest::timeout(120)) {
  const PngKind kind{.width = 8000, .height = 8000, .bits = 8, .colour = 2};
  const Bytes screenshot = png_of(kind, Bytes(24001ul * 8000), 9);
  CHECK(screenshot.size() < 250000);
  CHECK(decode_image(screenshot, "x").width == 8000);
  const PngKind grey{.width = 8000, .height = 8000, .bits = 8, .colour = 0};
  CHECK(decode_image(png_of(grey, Bytes(8001ul * 8000)), "x").width == 8000);
  const PngKind blank{.width = 4000, .height = 4000, .bits = 1, .colour = 0};
  CHECK(decode_image(png_of(blank, Bytes(501ul * 4000)), "x").width == 4000);
  CHECK(decode_image(webp_lossless(Image(3000, 5000, 200)), "x").width == 5000);
  const Bytes photo = encode_jpeg(Image(9000, 12000, 77), 80);
  CHECK(decode_image(photo, "x").height == 9000);
}

TEST_CASE("bytes at random in any format give an Error or a picture, nothing else") {
  const Image image = golden::noise(13, 17, "fuzz");
  TiffKind tiled = rgb_kind(image);
  tiled.tile = 16;
  std::vector<Bytes> seeds = {tiff_of(tiled, Bytes(768)), bmp_of(5, 2, 8, 1, {5, 1, 0, 0, 0, 5, 0, 1, 2, 3, 2, 0}, kFour),
                              bmp_of(5, 2, 4, 2, {5, 0x11, 0, 0, 0, 5, 1, 0x23, 0x20, 0}, kFour),
                              bmp_of(1, 1, 16, 3, {0xe0, 7, 0, 0}, {}, {0xf800, 0x7e0, 0x1f}),
                              webp_with_exif(webp_lossless(image), 17, 13, {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1})};
  for (const CorruptImage& p : corrupt_images(image)) seeds.push_back(p.bytes);
  for (const std::string format : {"png", "jpg", "bmp", "webp", "tif"}) seeds.push_back(encoded(format, image));
  const golden::Fill random("rounds");
  std::uint64_t draw = 0;
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random.u(draw++) * static_cast<double>(n)); };
  int images = 0, errors = 0;
  for (const Bytes& seed : seeds)
    for (int round = 0; round < 60; ++round) {
      Bytes bytes = seed;
      if (round % 4 == 0) bytes.resize(below(bytes.size() + 1));
      for (std::size_t k = 0; k < 1 + below(6) && !bytes.empty(); ++k)
        bytes[round % 2 ? below(bytes.size()) : below(std::min<std::size_t>(bytes.size(), 80))] =
            static_cast<std::uint8_t>(below(256));
      try {
        const Image got = decode_image(bytes, "fuzz");
        REQUIRE(got.pixels.size() == static_cast<std::size_t>(got.height) * static_cast<std::size_t>(got.width) * 3);
        ++images;
      } catch (const Error&) {
        ++errors;
      }
    }
  CHECK(images > 100);
  CHECK(errors > 100);
}
