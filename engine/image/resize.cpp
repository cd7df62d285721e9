#include "engine/image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "engine/image/color.h"
#include "kernels/error.h"

namespace frost {
namespace {

using std::size_t;
using std::uint8_t;

int round_even(double v) { return static_cast<int>(std::nearbyint(v)); }

/// OpenCV computes the step as the reciprocal of the quotient; the two roundings are part of the result.
double step_of(int in, int out) { return 1.0 / (static_cast<double>(out) / in); }

// ---- Bilinear
// --------------------------------------------------------------------------------------------------------------

/// For every target row or column: the first of two neighbouring source positions, and their weights, which sum to 2048.
struct Taps {
  struct Tap {
    int first;
    std::int16_t w0, w1;
  };
  std::vector<Tap> taps;
};

Taps::Tap linear_tap(int first, float f) {
  return {first, static_cast<std::int16_t>(std::nearbyint((1.f - f) * 2048)),
          static_cast<std::int16_t>(std::nearbyint(f * 2048))};
}

/// `growing_area`: the positions of INTER_AREA where a side grows.
Taps linear_taps(int in, int out, bool clamp, bool growing_area) {
  const double step = step_of(in, out), inverse = static_cast<double>(out) / in;
  Taps result;
  result.taps.reserve(static_cast<size_t>(out));
  for (int d = 0; d < out; ++d) {
    int first;
    float f;
    if (growing_area) {
      first = static_cast<int>(std::floor(d * step));
      f = static_cast<float>((d + 1) - (first + 1) * inverse);
      f = f <= 0 ? 0.f : f - std::floor(f);
    } else {
      f = static_cast<float>((d + 0.5) * step - 0.5);
      first = static_cast<int>(std::floor(f));
      f -= static_cast<float>(first);
    }
    if (clamp && first < 0) first = 0, f = 0;
    if (clamp && first >= in - 1) first = in - 1, f = 0;
    result.taps.push_back(linear_tap(first, f));
  }
  return result;
}

/// One source row, resized in width: (w0 * left + w1 * right) >> 4, at most 32640. `out` has room for one element more.
void resize_row(const uint8_t* row, int in_width, const Taps& columns, std::int16_t* out) {
  const auto& taps = columns.taps;
  size_t x = 0;
#if defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128();
  for (; x < taps.size() && taps[x].first <= in_width - 3; ++x) {  // eight bytes are read where six are needed
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 3 * taps[x].first));
    const __m128i words = _mm_unpacklo_epi8(bytes, zero);
    const __m128i pairs = _mm_unpacklo_epi16(words, _mm_srli_si128(words, 6));  // left and right, by channel
    const __m128i weights = _mm_set1_epi32(static_cast<int>(taps[x].w0 | static_cast<unsigned>(taps[x].w1) << 16));
    const __m128i sums = _mm_srli_epi32(_mm_madd_epi16(pairs, weights), 4);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 3 * x), _mm_packs_epi32(sums, sums));
  }
#endif
  for (; x < taps.size(); ++x) {
    const uint8_t* left = row + 3 * taps[x].first;
    const uint8_t* right = taps[x].first + 1 < in_width ? left + 3 : left;
    for (int c = 0; c < 3; ++c) {
      out[3 * x + static_cast<size_t>(c)] = static_cast<std::int16_t>((taps[x].w0 * left[c] + taps[x].w1 * right[c]) >> 4);
    }
  }
}

void blend_rows(const std::int16_t* top, const std::int16_t* bottom, std::int16_t w0, std::int16_t w1, size_t count,
                uint8_t* out) {
  for (size_t k = 0; k < count; ++k) {
    const auto a = static_cast<std::int16_t>((w0 * top[k]) >> 16), b = static_cast<std::int16_t>((w1 * bottom[k]) >> 16);
    out[k] = static_cast<uint8_t>(static_cast<std::int16_t>(a + b + 2) >> 2);
  }
}

void resize_separable(const Image& source, const Taps& columns, const Taps& rows, uint8_t* out, size_t row_bytes) {
  const size_t count = columns.taps.size() * 3;
  std::vector<std::int16_t> buffers[2] = {std::vector<std::int16_t>(count + 1), std::vector<std::int16_t>(count + 1)};
  int held[2] = {-1, -1};  // the source rows in the buffers; row r is in buffer r % 2, so two neighbours never collide
  const auto resized = [&](int row) {
    const int slot = row & 1;
    if (held[slot] != row) resize_row(source.at(row, 0), source.width, columns, buffers[slot].data());
    held[slot] = row;
    return buffers[slot].data();
  };
  for (const auto& tap : rows.taps) {
    const auto* top = resized(std::clamp(tap.first, 0, source.height - 1));
    const auto* bottom = resized(std::clamp(tap.first + 1, 0, source.height - 1));
    blend_rows(top, bottom, tap.w0, tap.w1, count, out);
    out += row_bytes;
  }
}

// ---- Area
// ------------------------------------------------------------------------------------------------------------------

void halve_row(const uint8_t* top, const uint8_t* bottom, int out_width, uint8_t* out) {
  int x = 0;
#if defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128(), two = _mm_set1_epi16(2);
  for (; x < out_width - 1; ++x) {  // reads two bytes too many, writes one
    const __m128i a = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(top + 6 * x)), zero);
    const __m128i b = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bottom + 6 * x)), zero);
    const __m128i column = _mm_add_epi16(a, b);
    const __m128i sum = _mm_add_epi16(_mm_add_epi16(column, _mm_srli_si128(column, 6)), two);
    const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(_mm_srli_epi16(sum, 2), zero));
    std::memcpy(out + 3 * x, &bytes, 4);
  }
#endif
  for (; x < out_width; ++x) {
    for (int c = 0; c < 3; ++c) {
      const int i = 6 * x + c;
      out[3 * x + c] = static_cast<uint8_t>((top[i] + top[i + 3] + bottom[i] + bottom[i + 3] + 2) >> 2);
    }
  }
}

void halve(const Image& source, int height, int width, uint8_t* out, size_t row_bytes) {
  for (int y = 0; y < height; ++y)
    halve_row(source.at(2 * y, 0), source.at(2 * y + 1, 0), width, out + static_cast<size_t>(y) * row_bytes);
}

void shrink_whole(const Image& source, int factor_y, int factor_x, Image& out) {
  const float scale = 1.f / static_cast<float>(factor_x * factor_y);
  std::vector<std::int32_t> sums(static_cast<size_t>(source.width) * 3);  // of the columns
  for (int y = 0; y < out.height; ++y) {
    std::fill(sums.begin(), sums.end(), 0);
    for (int j = 0; j < factor_y; ++j) {
      const uint8_t* row = source.at(y * factor_y + j, 0);
      for (size_t k = 0; k < sums.size(); ++k) sums[k] += row[k];
    }
    uint8_t* target = out.at(y, 0);
    for (int x = 0; x < out.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        std::int32_t sum = 0;
        for (int i = 0; i < factor_x; ++i) sum += sums[static_cast<size_t>((x * factor_x + i) * 3 + c)];
        target[3 * x + c] = static_cast<uint8_t>(std::nearbyint(static_cast<float>(sum) * scale));
      }
    }
  }
}

/// The source positions [first, last) that one target cell covers, with their shares of it.
struct Cell {
  int first, last;
  size_t weights;  // position of the first weight
};
struct Cells {
  std::vector<Cell> cells;
  std::vector<float> weights;
};

Cells area_cells(int in, int out) {
  const double step = step_of(in, out);
  Cells result;
  for (int d = 0; d < out; ++d) {
    const double begin = d * step, end = begin + step, cell = std::min(step, in - begin);
    const int full_end = std::min(static_cast<int>(std::floor(end)), in - 1);
    const int full_begin = std::min(static_cast<int>(std::ceil(begin)), full_end);
    Cell c{full_begin, full_end, result.weights.size()};
    if (full_begin - begin > 1e-3) {
      --c.first;
      result.weights.push_back(static_cast<float>((full_begin - begin) / cell));
    }
    for (int s = full_begin; s < full_end; ++s) result.weights.push_back(static_cast<float>(1.0 / cell));
    if (end - full_end > 1e-3) {
      ++c.last;
      result.weights.push_back(static_cast<float>(std::min(std::min(end - full_end, 1.0), cell) / cell));
    }
    result.cells.push_back(c);
  }
  return result;
}

void average_row(const uint8_t* row, int in_width, const Cells& columns, float* out) {
  for (size_t x = 0; x < columns.cells.size(); ++x) {
    const Cell& cell = columns.cells[x];
    const float* weight = columns.weights.data() + cell.weights;
    int s = cell.first;
#if defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128();
    __m128 sum = _mm_setzero_ps();
    for (; s < std::min(cell.last, in_width - 1); ++s) {  // reads one byte too many
      int pixel;
      std::memcpy(&pixel, row + 3 * s, 4);
      const __m128i ints = _mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(pixel), zero), zero);
      sum = _mm_add_ps(sum, _mm_mul_ps(_mm_cvtepi32_ps(ints), _mm_set1_ps(*weight++)));
    }
    _mm_storeu_ps(out + 3 * x, sum);  // writes one element too many; `out` has room
#else
    out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = 0;
#endif
    for (; s < cell.last; ++s, ++weight) {
      for (int c = 0; c < 3; ++c) out[3 * x + static_cast<size_t>(c)] += static_cast<float>(row[3 * s + c]) * *weight;
    }
  }
  (void)in_width;
}

void shrink(const Image& source, Image& out) {
  const Cells columns = area_cells(source.width, out.width), rows = area_cells(source.height, out.height);
  const size_t count = static_cast<size_t>(out.width) * 3;
  std::vector<float> averaged(count + 1), sum(count);
  int held = -1;
  for (int y = 0; y < out.height; ++y) {
    const Cell& cell = rows.cells[static_cast<size_t>(y)];
    for (int s = cell.first; s < cell.last; ++s) {
      if (held != s) average_row(source.at(s, 0), source.width, columns, averaged.data());
      held = s;
      const float weight = rows.weights[cell.weights + static_cast<size_t>(s - cell.first)];
      if (s == cell.first) {
        for (size_t k = 0; k < count; ++k) sum[k] = weight * averaged[k];
      } else {
        for (size_t k = 0; k < count; ++k) sum[k] += weight * averaged[k];
      }
    }
    uint8_t* target = out.at(y, 0);
    for (size_t k = 0; k < count; ++k) {
      // Adding 1.5 * 2^23 rounds half to even, and unlike nearbyint it is vectorised everywhere.
      const float rounded = (sum[k] + 12582912.f) - 12582912.f;
      target[k] = static_cast<uint8_t>(static_cast<int>(std::clamp(rounded, 0.f, 255.f)));
    }
  }
}

void check_sizes(const Image& source, int height, int width) {
  FROST_CHECK(!source.empty() && height > 0 && width > 0, "resize: from ", source.width, " x ", source.height, " to ", width,
              " x ", height, " pixels is not possible");
}

bool is_half(const Image& source, int height, int width) {
  return step_of(source.width, width) == 2.0 && step_of(source.height, height) == 2.0;
}

void resize_linear_into(const Image& source, int height, int width, uint8_t* out, size_t row_bytes) {
  if (height == source.height && width == source.width) {
    for (int y = 0; y < height; ++y)
      std::memcpy(out + static_cast<size_t>(y) * row_bytes, source.at(y, 0), static_cast<size_t>(width) * 3);
  } else if (is_half(source, height, width)) {
    halve(source, height, width, out, row_bytes);
  } else {
    resize_separable(source, linear_taps(source.width, width, true, false), linear_taps(source.height, height, false, false),
                     out, row_bytes);
  }
}

/// Fills the frame and resizes the picture into it.
void letterbox_into(const Image& source, const Letterbox& box, uint8_t fill, uint8_t* out) {
  const size_t row_bytes = static_cast<size_t>(box.width()) * 3, left = static_cast<size_t>(box.left) * 3;
  const size_t right = static_cast<size_t>(box.right) * 3;
  std::memset(out, fill, static_cast<size_t>(box.top) * row_bytes);
  uint8_t* row = out + static_cast<size_t>(box.top) * row_bytes;
  resize_linear_into(source, box.picture_h, box.picture_w, row + left, row_bytes);
  for (int y = 0; y < box.picture_h; ++y, row += row_bytes) {
    std::memset(row, fill, left);
    std::memset(row + row_bytes - right, fill, right);
  }
  std::memset(row, fill, static_cast<size_t>(box.bottom) * row_bytes);
}

}  // namespace

Image resize_linear(const Image& source, int height, int width) {
  check_sizes(source, height, width);
  Image out(height, width);
  resize_linear_into(source, height, width, out.pixels.data(), static_cast<size_t>(width) * 3);
  return out;
}

Image resize_area(const Image& source, int height, int width) {
  check_sizes(source, height, width);
  if (height == source.height && width == source.width) return source;
  Image out(height, width);
  const double step_x = step_of(source.width, width), step_y = step_of(source.height, height);
  if (step_x < 1 || step_y < 1) {
    resize_separable(source, linear_taps(source.width, width, true, true), linear_taps(source.height, height, false, true),
                     out.pixels.data(), static_cast<size_t>(width) * 3);
    return out;
  }
  const int factor_x = round_even(step_x), factor_y = round_even(step_y);
  constexpr double kWhole = std::numeric_limits<double>::epsilon();
  if (std::abs(step_x - factor_x) < kWhole && std::abs(step_y - factor_y) < kWhole) {
    if (factor_x == 2 && factor_y == 2) {
      halve(source, height, width, out.pixels.data(), static_cast<size_t>(width) * 3);
    } else {
      shrink_whole(source, factor_y, factor_x, out);
    }
  } else {
    shrink(source, out);
  }
  return out;
}

Image resize_longest(Image source, int size, bool area_when_shrinking) {
  const double r = static_cast<double>(size) / std::max(source.height, source.width);
  if (r == 1) return source;
  const int height = std::max(1, static_cast<int>(source.height * r)),
            width = std::max(1, static_cast<int>(source.width * r));
  return area_when_shrinking && r < 1 ? resize_area(source, height, width) : resize_linear(source, height, width);
}

Letterbox plan_letterbox(int height, int width, const LetterboxOptions& o) {
  FROST_CHECK(height > 0 && width > 0 && o.height > 0 && o.width > 0 && o.stride > 0, "letterbox: from ", width, " x ",
              height, " to ", o.width, " x ", o.height, " pixels is not possible");
  double r = std::min(static_cast<double>(o.height) / height, static_cast<double>(o.width) / width);
  if (!o.enlarge) r = std::min(r, 1.0);
  Letterbox box{.ratio_w = r,
                .ratio_h = r,
                .picture_h = std::max(1, round_even(height * r)),
                .picture_w = std::max(1, round_even(width * r))};
  double spare_w = o.width - box.picture_w, spare_h = o.height - box.picture_h;
  if (o.minimal) {
    spare_w = std::fmod(spare_w, o.stride);
    spare_h = std::fmod(spare_h, o.stride);
  } else if (o.stretch) {
    spare_w = spare_h = 0;
    box.picture_h = o.height;
    box.picture_w = o.width;
    box.ratio_w = static_cast<double>(o.width) / width;
    box.ratio_h = static_cast<double>(o.height) / height;
  }
  box.pad_w = spare_w / 2;
  box.pad_h = spare_h / 2;
  box.top = round_even(box.pad_h - 0.1);  // the odd pixel goes to the bottom and to the right
  box.bottom = round_even(box.pad_h + 0.1);
  box.left = round_even(box.pad_w - 0.1);
  box.right = round_even(box.pad_w + 0.1);
  return box;
}

LetterboxResult letterbox(const Image& source, const LetterboxOptions& options) {
  const Letterbox box = plan_letterbox(source.height, source.width, options);
  Image out(box.height(), box.width());
  letterbox_into(source, box, options.fill, out.pixels.data());
  return {std::move(out), box};
}

Letterbox letterbox_rgb(const Image& source, const LetterboxOptions& options, std::uint8_t* rgb) {
  const Letterbox box = plan_letterbox(source.height, source.width, options);
  letterbox_into(source, box, options.fill, rgb);
  swap_red_blue(rgb, rgb, static_cast<size_t>(box.height()) * static_cast<size_t>(box.width()));
  return box;
}

}  // namespace frost
