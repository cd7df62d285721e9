#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
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
  std::size_t row_bytes(std::uint64_t pixels) const {
    return static_cast<std::size_t>((pixels * bits * channels() + 7) / 8);
  }
};

Format format_of(Bytes bytes) {
  const ByteReader in{bytes};
  return {.width = in.u32(16), .height = in.u32(20), .bits = in.u8(24), .colour = in.u8(25), .interlaced = in.u8(28)};
}

/// The pixels of one pass: every dx-th from x0 on, every dy-th row from y0 on.
struct Pass {
  std::uint32_t x0, y0, dx, dy;
};
constexpr std::array<Pass, 1> kPlain{{{0, 0, 1, 1}}};
constexpr std::array<Pass, 7> kAdam7{
    {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}}};
std::span<const Pass> passes(const Format& f) {
  if (f.interlaced) return kAdam7;
  return kPlain;
}
std::uint32_t steps(std::uint32_t size, std::uint32_t first, std::uint32_t step) {
  return size > first ? (size - first + step - 1) / step : 0;
}

struct Chunks {
  std::vector<Bytes> data;  // of the pixels, deflated
  Bytes palette;
};

/// Walks all chunks: lengths, checksums, order, end.
Chunks walk(Bytes bytes, const Format& format) {
  Chunks found;
  const ByteReader in{bytes};
  bool data_over = false;
  for (std::size_t at = kFirstChunk;;) {
    FROST_CHECK(bytes.size() - at >= kFrame, "the png file is cut off");
    const std::size_t length = in.u32(at);
    FROST_CHECK(bytes.size() - at - kFrame >= length, "the png file is cut off");
    const Bytes type = bytes.subspan(at + 4, 4), body = bytes.subspan(at + 8, length);
    const auto sum = crc32_z(0, type.data(), 4 + length);
    FROST_CHECK(sum == in.u32(at + 8 + length), "the png file is damaged (checksum of a chunk)");
    const bool data = starts_with(type, "IDAT");
    if (data) {
      FROST_CHECK(!data_over, "the png file is damaged (its chunks stand in a wrong order)");
      FROST_CHECK(format.colour != indexed || !found.palette.empty(), "the png file is damaged (no palette)");
      found.data.push_back(body);
    } else {
      data_over = !found.data.empty();
    }
    if (starts_with(type, "PLTE") && found.data.empty()) found.palette = body.first(body.size() / 3 * 3);
    if (starts_with(type, "IEND")) break;
    at += kFrame + length;
  }
  FROST_CHECK(!found.data.empty(), "the png file has no picture data");
  return found;
}

/// The rows' bytes, inflated in order.
class Inflater {
 public:
  explicit Inflater(std::vector<Bytes> pieces) : pieces_(std::move(pieces)) {
    if (inflateInit(&stream_) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  void read(std::span<std::uint8_t> out) {
    stream_.next_out = out.data();
    stream_.avail_out = static_cast<uInt>(out.size());
    while (stream_.avail_out > 0) {
      while (stream_.avail_in == 0) {
        FROST_CHECK(next_ < pieces_.size(), "the png file is damaged (its data ends too early)");
        stream_.next_in = const_cast<Bytef*>(pieces_[next_].data());
        stream_.avail_in = static_cast<uInt>(pieces_[next_].size());
        ++next_;
      }
      const int state = inflate(&stream_, Z_NO_FLUSH);
      FROST_CHECK(state != Z_STREAM_END || stream_.avail_out == 0, "the png file is damaged (its data ends too early)");
      FROST_CHECK(state == Z_OK || state == Z_STREAM_END, "the png file is damaged (",
                  stream_.msg ? stream_.msg : "compressed data", ")");
    }
  }

 private:
  std::vector<Bytes> pieces_;
  std::size_t next_ = 0;
  z_stream stream_ = {};
};

/// A row was stored as differences to its neighbours: `step` bytes to the left, and the row above.
void unfilter(unsigned filter, std::span<std::uint8_t> row, std::span<const std::uint8_t> above, std::size_t step) {
  const auto left = [&](std::size_t i) { return i >= step ? row[i - step] : 0; };
  const auto corner = [&](std::size_t i) { return i >= step ? above[i - step] : 0; };
  const auto add = [](std::uint8_t& to, int value) { to = static_cast<std::uint8_t>(to + value); };
  const std::size_t n = row.size();
  switch (filter) {
    case 0:
      return;
    case 1:
      for (std::size_t i = step; i < n; ++i) add(row[i], row[i - step]);
      return;
    case 2:
      for (std::size_t i = 0; i < n; ++i) add(row[i], above[i]);
      return;
    case 3:
      for (std::size_t i = 0; i < n; ++i) add(row[i], (left(i) + above[i]) / 2);
      return;
    case 4:
      for (std::size_t i = 0; i < n; ++i) {
        const int a = left(i), b = above[i], c = corner(i);
        const int to_a = std::abs(b - c), to_b = std::abs(a - c), to_c = std::abs(a + b - 2 * c);
        add(row[i], to_a <= to_b && to_a <= to_c ? a : to_b <= to_c ? b : c);
      }
      return;
    default:
      fail("the png file is damaged (unknown filter of a row)");
  }
}

/// Writes a row's pixels as B G R, `stride` bytes apart. Of 16 bits the upper 8 count, alpha is dropped.
void expand(const Format& f, Bytes row, Bytes palette, std::uint32_t count, std::uint8_t* out, std::size_t stride) {
  const std::size_t wide = f.bits == 16 ? 2 : 1, step = f.channels() * wide;
  const unsigned most = (1u << std::min(f.bits, 8u)) - 1;
  for (std::uint32_t x = 0; x < count; ++x, out += stride) {
    if (f.colour == rgb || f.colour == rgb_alpha) {
      const std::uint8_t* p = row.data() + x * step;
      out[0] = p[2 * wide], out[1] = p[wide], out[2] = p[0];
      continue;
    }
    unsigned value;
    if (f.bits < 8) {
      const std::uint32_t bit = x * f.bits;
      value = row[bit / 8] >> (8 - f.bits - bit % 8) & most;
    } else {
      value = row[x * step];
    }
    if (f.colour == indexed) {
      for (std::size_t c = 0; c < 3; ++c) out[2 - c] = 3 * value + c < palette.size() ? palette[3 * value + c] : 0;
    } else {
      out[0] = out[1] = out[2] = static_cast<std::uint8_t>(value * 255 / most);
    }
  }
}

/// Goes through all rows; `image` null: what is wrong is found all the same.
void read_rows(Bytes bytes, Image* image) {
  const Format f = format_of(bytes);
  Chunks chunks = walk(bytes, f);
  Inflater data(std::move(chunks.data));
  const std::size_t step = std::max<std::size_t>(1, f.bits * f.channels() / 8);
  std::vector<std::uint8_t> row, above;
  for (const Pass& pass : passes(f)) {
    const std::uint32_t columns = steps(f.width, pass.x0, pass.dx), rows = steps(f.height, pass.y0, pass.dy);
    if (columns == 0) continue;
    row.assign(1 + f.row_bytes(columns), 0);  // the filter, the row
    above = row;
    for (std::uint32_t y = 0; y < rows; ++y) {
      std::swap(row, above);
      data.read(row);
      unfilter(row[0], std::span(row).subspan(1), std::span(above).subspan(1), step);
      if (image)
        expand(f, std::span(row).subspan(1), chunks.palette, columns,
               image->at(static_cast<int>(pass.y0 + y * pass.dy), static_cast<int>(pass.x0)), 3 * std::size_t{pass.dx});
    }
  }
}

}  // namespace

Header read_header(Bytes bytes) {
  Header header{.state = Header::cut, .info = {.format = "png"}};
  const ByteReader in{bytes};
  for (std::size_t at = kFirstChunk;;) {
    if (bytes.size() - at < 8) return header;
    const std::size_t length = in.u32(at);
    const Bytes type = bytes.subspan(at + 4, 4);
    const bool first = at == kFirstChunk;
    header.state = Header::bad;
    if (first && (!starts_with(type, "IHDR") || length != 13)) return header;
    if (starts_with(type, "IEND")) return header;
    header.state = Header::ok;
    if (starts_with(type, "IDAT")) return header;
    header.state = Header::cut;
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
    if (starts_with(type, "eXIf")) header.info.orientation = exif_orientation(bytes.subspan(at + 8, length));
    at += kFrame + length;
  }
}

void check(Bytes bytes) { read_rows(bytes, nullptr); }

Image decode(Bytes bytes) {
  const Format f = format_of(bytes);
  Image image(static_cast<int>(f.height), static_cast<int>(f.width));
  read_rows(bytes, &image);
  return image;
}

}  // namespace frost::image::png
