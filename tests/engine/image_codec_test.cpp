#include "engine/image/codec.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <csignal>

#include <cstdio>  // jpeglib.h needs FILE
#include <fstream>

#include <jpeglib.h>  // after <cstdio>

#include "kernels/error.h"
#include "tests/golden/images.h"
#include "tests/timing.h"

using namespace frost;
using golden::worst;
namespace fs = std::filesystem;

namespace {

using Bytes = std::vector<std::uint8_t>;

struct Folder {  // removed with everything in it
  fs::path path = fs::temp_directory_path() / ("frost_codec_" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  fs::path write(const std::string& name, const Bytes& bytes) const {
    std::ofstream(path / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path / name;
  }
};

Bytes read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::uint32_t crc32(const Bytes& bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const auto byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

std::string error_of(const Bytes& bytes) {
  try {
    (void)decode_image(bytes, "test.img");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

void append(Bytes& out, std::initializer_list<int> values) {
  for (int v : values) out.push_back(static_cast<std::uint8_t>(v));
}
void append32(Bytes& out, std::uint32_t v) {
  append(out, {static_cast<int>(v >> 24), static_cast<int>(v >> 16 & 255), static_cast<int>(v >> 8 & 255),
               static_cast<int>(v & 255)});
}

/// 16 x 16 pixels of one colour, by libjpeg itself.
Bytes one_colour_jpeg(J_COLOR_SPACE space, const Bytes& colour, bool progressive = false) {
  jpeg_compress_struct codec = {};
  jpeg_error_mgr errors;
  codec.err = jpeg_std_error(&errors);
  jpeg_create_compress(&codec);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&codec, &data, &size);
  codec.image_width = codec.image_height = 16;
  codec.input_components = static_cast<int>(colour.size());
  codec.in_color_space = space;
  jpeg_set_defaults(&codec);
  jpeg_set_quality(&codec, 100, TRUE);
  if (progressive) jpeg_simple_progression(&codec);
  jpeg_start_compress(&codec, TRUE);
  Bytes row;
  for (int x = 0; x < 16; ++x) row.insert(row.end(), colour.begin(), colour.end());
  for (int y = 0; y < 16; ++y) {
    JSAMPROW rows[1] = {row.data()};
    jpeg_write_scanlines(&codec, rows, 1);
  }
  jpeg_finish_compress(&codec);
  Bytes out(data, data + size);
  jpeg_destroy_compress(&codec);
  std::free(data);
  return out;
}

/// A TIFF block with the one tag that matters.
Bytes tiff(int orientation, bool little) {
  if (little)
    return {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, static_cast<std::uint8_t>(orientation),
            0,   0,   0};
  return {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, static_cast<std::uint8_t>(orientation), 0, 0};
}

Bytes with_exif(const Bytes& jpeg, int orientation, bool little) {
  const Bytes block = tiff(orientation, little);
  Bytes out = {0xff, 0xd8, 0xff, 0xe1};
  const auto length = static_cast<int>(block.size() + 8);
  append(out, {length >> 8, length & 255, 'E', 'x', 'i', 'f', 0, 0});
  out.insert(out.end(), block.begin(), block.end());
  out.insert(out.end(), jpeg.begin() + 2, jpeg.end());
  return out;
}

void append_chunk(Bytes& png, const std::string& type, const Bytes& body) {
  append32(png, static_cast<std::uint32_t>(body.size()));
  Bytes checked(type.begin(), type.end());
  checked.insert(checked.end(), body.begin(), body.end());
  png.insert(png.end(), checked.begin(), checked.end());
  append32(png, crc32(checked));
}

std::uint32_t adler32(const Bytes& bytes) {
  std::uint32_t a = 1, b = 0;
  for (const auto byte : bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

/// A PNG by hand: stored (not compressed) rows, each after a filter byte 0.
Bytes png_by_hand(int width, int height, int bits, int colour, const Bytes& rows, const Bytes& exif = {}) {
  Bytes png = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, header, data = {0x78, 0x01, 0x01};
  append32(header, static_cast<std::uint32_t>(width));
  append32(header, static_cast<std::uint32_t>(height));
  append(header, {bits, colour, 0, 0, 0});
  append_chunk(png, "IHDR", header);
  if (!exif.empty()) append_chunk(png, "eXIf", exif);
  const auto n = static_cast<int>(rows.size());
  append(data, {n & 255, n >> 8, ~n & 255, (~n >> 8) & 255});
  data.insert(data.end(), rows.begin(), rows.end());
  append32(data, adler32(rows));
  append_chunk(png, "IDAT", data);
  append_chunk(png, "IEND", {});
  return png;
}

}  // namespace

TEST_CASE("jpeg: OpenCV's pixels of 128 photographs") {
  if (!golden::have("data/coco128/images")) return;
  std::ifstream in(golden::dir() / "coco128_yolov5n.json");
  const auto reference = nlohmann::json::parse(in)["decoded_jpegs"];
  int compared = 0;
  for (const auto& entry : fs::recursive_directory_iterator(golden::shared_dir() / "data" / "coco128" / "images")) {
    if (entry.path().extension() != ".jpg" || !reference.contains(entry.path().stem().string())) continue;
    const auto expected = reference[entry.path().stem().string()];
    std::string warning;
    const Image image = decode_image(entry.path(), &warning);
    CHECK(warning.empty());
    CHECK(std::vector{image.height, image.width, 3} == expected["shape_hwc"].get<std::vector<int>>());
    std::array<std::int64_t, 3> sums{};
    for (std::size_t i = 0; i < image.pixels.size(); ++i) sums[i % 3] += image.pixels[i];
    CHECK(std::vector(sums.begin(), sums.end()) == expected["bgr_sums"].get<std::vector<std::int64_t>>());
    CHECK_MESSAGE(crc32(image.pixels) == expected["crc32"].get<std::uint32_t>(), entry.path().string());
    const ImageInfo info = probe_image(entry.path());
    CHECK(info.format == "jpeg");
    CHECK((info.orientation >= 5 ? info.height : info.width) == image.width);
    ++compared;
  }
  CHECK(compared == static_cast<int>(reference.size()));
}

TEST_CASE("jpeg: write and read") {
  const Folder folder;
  const Image source = golden::smooth(37, 53);
  const auto path = folder.path / "a.jpg";
  write_jpeg(path, source);
  CHECK(worst(decode_image(path), source) <= 8);  // lossy; a smooth picture stays near
  CHECK(probe_image(path).width == 53);
  CHECK(probe_image(path).height == 37);
  const Image colours = golden::noise(32, 32, "chroma");
  CHECK(worst(decode_image(encode_jpeg(colours, 100, true), "full"), colours) <
        worst(decode_image(encode_jpeg(colours, 100, false), "half"), colours));
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 1);  // no temporary file stays
  CHECK_THROWS_AS(write_jpeg(folder.path / "b.jpg", Image()), Error);
  CHECK_THROWS_AS(write_jpeg(path / "a file is no folder.jpg", source), Error);
}

TEST_CASE("jpeg: EXIF orientations, both byte orders") {
  const Bytes plain = encode_jpeg(golden::smooth(24, 40), 95, true);
  const Image stored = decode_image(plain, "plain");
  for (const bool little : {false, true}) {
    for (int orientation = 1; orientation <= 8; ++orientation) {
      const Image got = decode_image(with_exif(plain, orientation, little), "turned");
      REQUIRE(got.height == (orientation >= 5 ? 40 : 24));
      // Where the standard puts the stored first row and first column: top/bottom, left/right.
      const auto expected = [&](int y, int x) {
        switch (orientation) {
          case 2:
            return stored.at(y, 39 - x);
          case 3:
            return stored.at(23 - y, 39 - x);
          case 4:
            return stored.at(23 - y, x);
          case 5:
            return stored.at(x, y);
          case 6:
            return stored.at(23 - x, y);
          case 7:
            return stored.at(23 - x, 39 - y);
          case 8:
            return stored.at(x, 39 - y);
          default:
            return stored.at(y, x);
        }
      };
      bool same = true;
      for (int y = 0; y < got.height; ++y) {
        for (int x = 0; x < got.width; ++x) same = same && std::equal(got.at(y, x), got.at(y, x) + 3, expected(y, x));
      }
      CHECK_MESSAGE(same, "orientation ", orientation);
    }
  }
  const Folder folder;
  const ImageInfo info = probe_image(folder.write("six.jpg", with_exif(plain, 6, true)));
  CHECK(info.orientation == 6);
  CHECK(info.width == 40);  // as stored
  CHECK(worst(decode_image(with_exif(plain, 9, true), "nonsense"), stored) == 0);
}

TEST_CASE("jpeg: grey and four inks") {
  const Image grey = decode_image(one_colour_jpeg(JCS_GRAYSCALE, {100}), "grey");
  CHECK(grey.pixels == Bytes(16 * 16 * 3, 100));
  // Adobe's inverted inks: 255 is none. Channel = K - ((255 - ink) * K >> 8), as OpenCV computes it.
  const Image inks = decode_image(one_colour_jpeg(JCS_CMYK, {255, 128, 0, 200}), "inks");
  CHECK(std::abs(inks.pixels[2] - 200) <= 1);  // red: no cyan
  CHECK(std::abs(inks.pixels[1] - (200 - (127 * 200 >> 8))) <= 1);
  CHECK(std::abs(inks.pixels[0] - (200 - (255 * 200 >> 8))) <= 1);
}

TEST_CASE("jpeg: corrupt files are kept with a warning, hopeless ones refused") {
  const Bytes good = encode_jpeg(golden::noise(64, 64, "corruption"), 90);
  std::string warning = "old";
  Bytes trailing = good;
  append(trailing, {0, 1, 2});  // does not end in FF D9, but decodes fully
  const Image whole = decode_image(good, "good", &warning);
  CHECK(warning.empty());
  CHECK(worst(decode_image(trailing, "trailing", &warning), whole) == 0);
  CHECK(warning.empty());

  const Bytes half(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(good.size() / 2));
  const Image kept = decode_image(half, "half.jpg", &warning);
  CHECK(kept.height == 64);
  CHECK(std::equal(kept.pixels.begin(), kept.pixels.begin() + 8 * 64 * 3, whole.pixels.begin()));  // what was there is there
  CHECK(warning.starts_with("half.jpg: corrupt JPEG: "));
  CHECK(warning.find("remature end") != std::string::npos);
  CHECK_NOTHROW((void)decode_image(half, "half.jpg"));

  CHECK(error_of({}) == "test.img: the file is empty");
  CHECK(error_of({'h', 'e', 'l', 'l', 'o'}) == "test.img: not an image (unknown format)");
  CHECK(error_of({0xff, 0xd8, 0xff, 0xe0, 0, 16}) == "test.img: the jpeg file ends within its header");
  Bytes huge = good;
  for (std::size_t i = 0; i + 9 < huge.size(); ++i) {
    if (huge[i] != 0xff || huge[i + 1] != 0xc0) continue;
    std::fill_n(huge.begin() + static_cast<std::ptrdiff_t>(i) + 5, 4, 0xff);  // 65535 x 65535
    break;
  }
  CHECK(error_of(huge) == "test.img: image size 65535 x 65535 is not plausible: more than 178956970 pixels");
}

TEST_CASE("jpeg: progressive, but not with scans without end") {
  const Bytes good = one_colour_jpeg(JCS_GRAYSCALE, {100}, true), scan = {0xff, 0xda};
  CHECK(decode_image(good, "progressive").pixels == Bytes(16 * 16 * 3, 100));
  const auto last = std::find_end(good.begin(), good.end(), scan.begin(), scan.end());
  REQUIRE(last != good.end());
  Bytes many = good;
  for (int i = 0; i < 120; ++i) many.insert(many.end() - 2, last, good.end() - 2);
  CHECK(error_of(many) == "test.img: cannot decode JPEG: more than 100 scans");
}

TEST_CASE("png: write and read, kinds of pixels") {
  const Folder folder;
  const Image source = golden::noise(19, 23, "png");
  write_png(folder.path / "a.png", source);
  CHECK(worst(decode_image(folder.path / "a.png"), source) == 0);
  const ImageInfo info = probe_image(folder.path / "a.png");
  CHECK(info.format == "png");
  CHECK(info.width == 23);
  CHECK(info.height == 19);
  // Grey is replicated; 16 bits lose the lower 8; alpha is dropped without blending.
  CHECK(decode_image(png_by_hand(2, 1, 8, 0, {0, 10, 200}), "grey").pixels == Bytes{10, 10, 10, 200, 200, 200});
  CHECK(decode_image(png_by_hand(1, 1, 16, 2, {0, 11, 255, 22, 128, 33, 1}), "16").pixels == Bytes{33, 22, 11});
  CHECK(decode_image(png_by_hand(1, 1, 8, 6, {0, 1, 2, 3, 0}), "alpha").pixels == Bytes{3, 2, 1});
  // 2 x 1, turned by 90 degrees.
  const Image turned = decode_image(png_by_hand(2, 1, 8, 0, {0, 10, 200}, tiff(6, false)), "turned");
  CHECK(turned.height == 2);
  CHECK(turned.pixels == Bytes{10, 10, 10, 200, 200, 200});
}

TEST_CASE("png: corruption is an error") {
  const Folder folder;
  write_png(folder.path / "a.png", golden::noise(9, 9, "png"));
  const Bytes good = read(folder.path / "a.png");
  Bytes flipped = good;
  flipped[good.size() / 2] ^= 1;  // libpng unpacks as it reads: it may stumble before it comes to the checksum
  CHECK(error_of(flipped).starts_with("test.img: the png file is corrupt ("));
  Bytes ending = good;
  ending[good.size() - 16] ^= 1;  // the last chunk's checksum of pixels
  CHECK(error_of(ending) == "test.img: the png file is corrupt (checksum of a chunk)");
  CHECK(error_of({good.begin(), good.end() - 20}) == "test.img: the png file is cut off");
  CHECK(error_of({good.begin(), good.begin() + 20}) == "test.img: the png file ends within its header");
  CHECK(error_of(png_by_hand(1 << 20, 1 << 11, 8, 0, {0, 1})).find("is not plausible") != std::string::npos);
  CHECK(error_of(png_by_hand(1 << 15, 1 << 14, 8, 0, {0, 1})).find("is not plausible") !=
        std::string::npos);  // for so small a file
}

TEST_CASE("bmp: 24 bits, bottom-up") {
  Bytes bmp = {'B', 'M', 70, 0, 0,  0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0,  2,  0,  0, 0, 2, 0,
               0,   0,   1,  0, 24, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0,  0, 0, 0,  0,  0,  0, 0, 0, 0,
               0,   0,   0,  0, 0,  0, 1, 2, 3, 4, 5,  6, 0, 0, 7,  8, 9, 10, 11, 12, 0, 0};
  CHECK(decode_image(bmp, "x.bmp").pixels == Bytes{7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6});
  const Folder folder;
  const Image source = golden::noise(9, 7, "bmp");  // rows padded to four bytes
  write_image(folder.path / "a.bmp", source);
  CHECK(probe_image(folder.path / "a.bmp").format == "bmp");
  CHECK(decode_image(folder.path / "a.bmp").pixels == source.pixels);
  bmp.resize(60);
  (void)error_of(bmp);  // stb pads or refuses; it must only not crash
}

TEST_CASE("formats that are known but not decoded say so") {
  Bytes gif = {'G', 'I', 'F', '8'};
  gif.resize(64);
  CHECK(error_of(gif) == "test.img: gif images are not supported, convert the file to JPEG or PNG");
  CHECK_THROWS_AS(probe_image("/nonexistent/a.jpg"), Error);
  CHECK_THROWS_AS(probe_image(fs::temp_directory_path()), Error);
}

TEST_CASE("garbage gives an Error or an image, nothing else") {
  std::vector<Bytes> seeds = {
      encode_jpeg(golden::noise(16, 24, "fuzz"), 80), with_exif(encode_jpeg(golden::smooth(24, 16), 80), 6, true),
      png_by_hand(2, 2, 8, 0, {0, 10, 200, 0, 3, 4}, tiff(3, true)), png_by_hand(1, 1, 8, 6, {0, 1, 2, 3, 0})};
  const Folder folder;
  write_png(folder.path / "seed.png", golden::noise(8, 8, "fuzz"));
  seeds.push_back(read(folder.path / "seed.png"));
  seeds.push_back({'B', 'M', 70, 0, 0,  0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0,  2,  0,  0, 0, 2, 0,
                   0,   0,   1,  0, 24, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0,  0, 0, 0,  0,  0,  0, 0, 0, 0,
                   0,   0,   0,  0, 0,  0, 1, 2, 3, 4, 5,  6, 0, 0, 7,  8, 9, 10, 11, 12, 0, 0});
  const golden::Fill random("fuzz");
  std::uint64_t draw = 0;
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random.u(draw++) * static_cast<double>(n)); };
  int images = 0, errors = 0;
  for (const Bytes& seed : seeds) {
    for (int round = 0; round < 300; ++round) {
      Bytes bytes = seed;
      if (round % 3 == 0) bytes.resize(below(bytes.size() + 1));
      for (std::size_t k = 0; k < 1 + below(8) && !bytes.empty(); ++k)
        bytes[below(bytes.size())] = static_cast<std::uint8_t>(below(256));
      try {
        std::string warning;
        const Image image = decode_image(bytes, "fuzz", &warning);
        REQUIRE(image.pixels.size() == static_cast<std::size_t>(image.height) * static_cast<std::size_t>(image.width) * 3);
        ++images;
      } catch (const Error&) {
        ++errors;
      }
    }
  }
  CHECK(images > 100);
  CHECK(errors > 100);
}

TEST_CASE("a full disk is an Error and leaves nothing behind") {
  const Folder folder;
  const auto path = folder.path / "full.png";
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{}, tiny{};
  getrlimit(RLIMIT_FSIZE, &old);
  tiny = old;
  tiny.rlim_cur = 1000;  // the nearest thing to a full disk that a test can make
  setrlimit(RLIMIT_FSIZE, &tiny);
  std::string text;
  try {
    write_png(path, golden::noise(64, 64, "full"));
  } catch (const Error& e) {
    text = e.what();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, before);
  CHECK(text.find("full.png") != std::string::npos);
  CHECK(fs::is_empty(folder.path));
}

TEST_CASE("speed of decoding" * doctest::skip()) {
  if (!golden::have("data/coco128/images")) return;
  std::vector<Bytes> files;
  for (const auto& entry : fs::recursive_directory_iterator(golden::shared_dir() / "data" / "coco128" / "images")) {
    if (entry.path().extension() == ".jpg") files.push_back(read(entry.path()));
  }
  std::size_t next = 0;
  timing::report(
      "decode one coco128 JPEG (mean of 128)", [&] { (void)decode_image(files[next++ % files.size()], "speed"); },
      static_cast<int>(files.size()), 3);
}
