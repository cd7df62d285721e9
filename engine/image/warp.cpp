#include "engine/image/warp.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kernels/error.h"

namespace frost {
namespace {

using std::uint8_t;

// A source position is an integer in units of 1/32 pixel. With fx, fy its fractions in those units, a pixel is
//   ((32 - fy) * ((32 - fx) * a + fx * b) + fy * ((32 - fx) * c + fx * d) + 512) >> 10
// over its four neighbours a b / c d. OpenCV's weights are 32 times as large and shifted by 15: the same integers.

/// Source coordinates beyond this are far outside any image; the bound keeps sums within 32 bits.
constexpr double kFar = 1 << 29;

int fixed(double v) { return static_cast<int>(std::nearbyint(std::clamp(v, -kFar, kFar))); }

/// Any pixel, near or across the border.
void blend_careful(const Image& source, int sx, int sy, int fx, int fy, uint8_t fill, uint8_t* out) {
  for (int c = 0; c < 3; ++c) {
    const auto tap = [&](int y, int x) -> int {
      const bool inside = y >= 0 && y < source.height && x >= 0 && x < source.width;
      return inside ? source.at(y, x)[c] : fill;
    };
    const int top = (32 - fx) * tap(sy, sx) + fx * tap(sy, sx + 1);
    const int bottom = (32 - fx) * tap(sy + 1, sx) + fx * tap(sy + 1, sx + 1);
    out[c] = static_cast<uint8_t>(((32 - fy) * top + fy * bottom + 512) >> 10);
  }
}

#if defined(__SSE2__)
struct alignas(64) Weights {
  std::int16_t x[32][8], y0[32][8], y1[32][8];  // (32 - f, f) pairs; 32 - f; f
  Weights() {
    for (std::int16_t f = 0; f < 32; ++f) {
      for (int i = 0; i < 8; ++i) {
        const auto rest = static_cast<std::int16_t>(32 - f);
        x[f][i] = i % 2 ? f : rest;
        y0[f][i] = rest;
        y1[f][i] = f;
      }
    }
  }
};
const Weights kWeights;

/// A pixel whose four neighbours lie inside. Reads two bytes after each pair of them, writes one after the result.
inline void blend_inside(const uint8_t* top, std::size_t row_bytes, int fx, int fy, uint8_t* out) {
  const auto load = [](const std::int16_t* weights) { return _mm_load_si128(reinterpret_cast<const __m128i*>(weights)); };
  const __m128i zero = _mm_setzero_si128();
  const __m128i t = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(top)), zero);
  const __m128i b = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(top + row_bytes)), zero);
  const __m128i column = _mm_add_epi16(_mm_mullo_epi16(t, load(kWeights.y0[fy])), _mm_mullo_epi16(b, load(kWeights.y1[fy])));
  const __m128i pairs =
      _mm_unpacklo_epi16(column, _mm_srli_si128(column, 6));  // left and right, by channel; at most 32 * 255
  const __m128i sums = _mm_add_epi32(_mm_madd_epi16(pairs, load(kWeights.x[fx])), _mm_set1_epi32(512));
  const __m128i words = _mm_packs_epi32(_mm_srli_epi32(sums, 10), zero);
  const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, zero));
  std::memcpy(out, &bytes, 4);
}
#else
inline void blend_inside(const uint8_t* top, std::size_t row_bytes, int fx, int fy, uint8_t* out) {
  const uint8_t* bottom = top + row_bytes;
  for (int c = 0; c < 3; ++c) {
    const int t = (32 - fx) * top[c] + fx * top[c + 3], b = (32 - fx) * bottom[c] + fx * bottom[c + 3];
    out[c] = static_cast<uint8_t>(((32 - fy) * t + fy * b + 512) >> 10);
  }
}
#endif

struct Span {
  int first, last;  // [first, last)
  Span meet(Span o) const { return {std::max(first, o.first), std::max(std::max(first, o.first), std::min(last, o.last))}; }
};

/// The columns x with low <= (base + delta[x]) >> 10 <= high. delta is monotone.
Span columns_within(const std::vector<int>& delta, int base, int low, int high) {
  const std::int64_t from = static_cast<std::int64_t>(low) * 1024 - base,
                     to = (static_cast<std::int64_t>(high) + 1) * 1024 - base;
  const auto position = [&](auto before) {
    return static_cast<int>(std::partition_point(delta.begin(), delta.end(), before) - delta.begin());
  };
  if (delta.front() <= delta.back())
    return {position([&](int d) { return d < from; }), position([&](int d) { return d < to; })};
  return {position([&](int d) { return d >= to; }), position([&](int d) { return d >= from; })};
}

void check_sizes(const Image& source, int height, int width) {
  constexpr int kMost = 1 << 19;
  FROST_CHECK(!source.empty() && height > 0 && width > 0 && std::max({source.height, source.width, height, width}) < kMost,
              "warp: from ", source.width, " x ", source.height, " to ", width, " x ", height, " pixels is not possible");
}

/// The order of operations decides the last bits, and with them ties of the fixed-point coordinates: it is OpenCV's.
Matrix3 inverse_affine(const Matrix3& m) {
  const double det = m[0] * m[4] - m[1] * m[3], d = det != 0 ? 1.0 / det : 0.0;
  const double a = m[4] * d, b = m[1] * -d, c = m[3] * -d, e = m[0] * d;
  return {a, b, -a * m[2] - b * m[5], c, e, -c * m[2] - e * m[5], 0, 0, 1};
}

Matrix3 inverse(const Matrix3& m) {
  const auto minor = [&](int a, int b, int c, int d) {
    return m[static_cast<std::size_t>(a)] * m[static_cast<std::size_t>(d)] -
           m[static_cast<std::size_t>(b)] * m[static_cast<std::size_t>(c)];
  };
  const double det = m[0] * minor(4, 5, 7, 8) - m[1] * minor(3, 5, 6, 8) + m[2] * minor(3, 4, 6, 7);
  const double d = det != 0 ? 1.0 / det : 0.0;
  return {minor(4, 5, 7, 8) * d, minor(2, 1, 8, 7) * d, minor(1, 2, 4, 5) * d, minor(5, 3, 8, 6) * d, minor(0, 2, 6, 8) * d,
          minor(2, 0, 5, 3) * d, minor(3, 4, 6, 7) * d, minor(1, 0, 7, 6) * d, minor(0, 1, 3, 4) * d};
}

}  // namespace

Matrix3 multiply(const Matrix3& a, const Matrix3& b) {
  Matrix3 out{};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
  }
  return out;
}

Image warp_affine(const Image& source, const Matrix3& matrix, int height, int width, uint8_t fill) {
  check_sizes(source, height, width);
  const Matrix3 m = inverse_affine(matrix);
  std::vector<int> delta_x(static_cast<std::size_t>(width)), delta_y(delta_x.size());
  for (std::size_t x = 0; x < delta_x.size(); ++x) {
    delta_x[x] = fixed(m[0] * static_cast<double>(x) * 1024);
    delta_y[x] = fixed(m[3] * static_cast<double>(x) * 1024);
  }
  const std::size_t row_bytes = static_cast<std::size_t>(source.width) * 3;
  Image out(height, width, fill);
  for (int y = 0; y < height; ++y) {
    const int base_x = fixed((m[1] * y + m[2]) * 1024) + 16, base_y = fixed((m[4] * y + m[5]) * 1024) + 16;
    const Span touching =
        columns_within(delta_x, base_x, -1, source.width - 1).meet(columns_within(delta_y, base_y, -1, source.height - 1));
    // blend_inside reads and writes slightly more than a pixel: the last columns of source and target are left to the other.
    const Span inside = touching.meet(columns_within(delta_x, base_x, 0, source.width - 3))
                            .meet(columns_within(delta_y, base_y, 0, source.height - 2))
                            .meet({0, width - 1});
    uint8_t* row = out.at(y, 0);
    const auto careful = [&](int from, int to) {
      for (int x = from; x < to; ++x) {
        const int px = (base_x + delta_x[static_cast<std::size_t>(x)]) >> 5,
                  py = (base_y + delta_y[static_cast<std::size_t>(x)]) >> 5;
        blend_careful(source, px >> 5, py >> 5, px & 31, py & 31, fill, row + 3 * x);
      }
    };
    if (inside.first == inside.last) {
      careful(touching.first, touching.last);
      continue;
    }
    careful(touching.first, inside.first);
    for (int x = inside.first; x < inside.last; ++x) {
      const int px = (base_x + delta_x[static_cast<std::size_t>(x)]) >> 5,
                py = (base_y + delta_y[static_cast<std::size_t>(x)]) >> 5;
      blend_inside(source.at(py >> 5, px >> 5), row_bytes, px & 31, py & 31, row + 3 * x);
    }
    if (inside.last < touching.last) {
      careful(inside.last, touching.last);
    } else if (inside.last < width) {
      std::memset(row + 3 * inside.last, fill, 3);  // restores the byte after the span
    }
  }
  return out;
}

Image warp_perspective(const Image& source, const Matrix3& matrix, int height, int width, uint8_t fill) {
  check_sizes(source, height, width);
  const Matrix3 m = inverse(matrix);
  const std::size_t row_bytes = static_cast<std::size_t>(source.width) * 3;
  Image out(height, width, fill);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double w = m[6] * x + m[7] * y + m[8], unit = w != 0 ? 32.0 / w : 0.0;
      const int px = fixed((m[0] * x + m[1] * y + m[2]) * unit), py = fixed((m[3] * x + m[4] * y + m[5]) * unit);
      const int sx = px >> 5, sy = py >> 5;
      if (sx < -1 || sy < -1 || sx >= source.width || sy >= source.height) continue;
      if (sx >= 0 && sx < source.width - 2 && sy >= 0 && sy < source.height - 1 && x < width - 1) {
        blend_inside(source.at(sy, sx), row_bytes, px & 31, py & 31, out.at(y, x));
        out.at(y, x + 1)[0] = fill;
      } else {
        blend_careful(source, sx, sy, px & 31, py & 31, fill, out.at(y, x));
      }
    }
  }
  return out;
}

}  // namespace frost
