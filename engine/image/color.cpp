#include "engine/image/color.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define FROST_TWO_TARGETS 1  // the HSV loop exists twice: for any x86-64, and with AVX2 and fused multiply-add
#endif

namespace frost {
namespace {

constexpr int kBlock = 256;  // pixels; the planes of a block stay in the first-level cache

struct Planes {
  alignas(64) std::int32_t a[kBlock], b[kBlock], c[kBlock];
};

struct HsvTables {
  std::int32_t hue[256], saturation[256], value[256];
};

#define FROST_INLINE inline __attribute__((always_inline))

FROST_INLINE void split(const std::uint8_t* pixels, int count, Planes& p) {
  for (int i = 0; i < count; ++i) {
    p.a[i] = pixels[3 * i];
    p.b[i] = pixels[3 * i + 1];
    p.c[i] = pixels[3 * i + 2];
  }
}

FROST_INLINE void join(const Planes& p, int count, std::uint8_t* pixels) {
  for (int i = 0; i < count; ++i) {
    pixels[3 * i] = static_cast<std::uint8_t>(p.a[i]);
    pixels[3 * i + 1] = static_cast<std::uint8_t>(p.b[i]);
    pixels[3 * i + 2] = static_cast<std::uint8_t>(p.c[i]);
  }
}

/// round(scale / x), half to even. Computed, as fetching it from a table is slower. Adding 1.5 * 2^23 leaves no fraction
/// bits. For x = 0, where the result is multiplied by 0, anything will do.
FROST_INLINE std::int32_t reciprocal(float scale, std::int32_t x) {
  return static_cast<std::int32_t>((scale / static_cast<float>(std::max(x, 1)) + 12582912.f) - 12582912.f);
}

/// In: b, g, r. Out: h, s, v. The reciprocals are in units of 2^-12: 255 / v, and 180 / (6 d).
FROST_INLINE void to_hsv(Planes& p, int count) {
  for (int i = 0; i < count; ++i) {
    const std::int32_t b = p.a[i], g = p.b[i], r = p.c[i];
    const std::int32_t v = std::max(b, std::max(g, r)), d = v - std::min(b, std::min(g, r));
    const std::int32_t turn = v == r ? g - b : v == g ? b - r + 2 * d : r - g + 4 * d;
    const std::int32_t h = (turn * reciprocal(30 << 12, d) + 2048) >> 12;
    p.a[i] = h < 0 ? h + 180 : h;
    p.b[i] = (d * reciprocal(255 << 12, v) + 2048) >> 12;
    p.c[i] = v;
  }
}

FROST_INLINE void look_up(Planes& p, int count, const HsvTables& t) {
  for (int i = 0; i < count; ++i) {
    p.a[i] = t.hue[p.a[i]];
    p.b[i] = t.saturation[p.b[i]];
    p.c[i] = t.value[p.c[i]];
  }
}

/// 1 - s * k with one rounding. A double holds the product exactly, and no s, k that occur here are near a tie.
template <bool kFused>
FROST_INLINE float one_minus(float s, float k) {
  if constexpr (kFused) return __builtin_fmaf(-s, k, 1.f);
  return static_cast<float>(1.0 - static_cast<double>(s) * static_cast<double>(k));
}

FROST_INLINE float unit(float x) { return std::min(std::max(x, 0.f), 1.f); }

/// In: h, s, v. Out: b, g, r. Every channel is v (1 - s k), where k falls from 1 to 0 or rises over one sixth of the hue
/// circle.
template <bool kFused>
FROST_INLINE void to_bgr(Planes& p, int count) {
  for (int i = 0; i < count; ++i) {
    const float h = static_cast<float>(p.a[i]) * (6.f / 180.f);
    const float s = static_cast<float>(p.b[i]) * (1.f / 255.f), v = static_cast<float>(p.c[i]) * (1.f / 255.f);
    const float k_blue = unit(std::max(3.f - h, h - 5.f));
    const float k_green = unit(std::max(1.f - h, h - 3.f));
    const float k_red = unit(std::min(h - 1.f, 5.f - h));
    p.a[i] = static_cast<std::int32_t>(v * one_minus<kFused>(s, k_blue) * 255.f);
    p.b[i] = static_cast<std::int32_t>(v * one_minus<kFused>(s, k_green) * 255.f);
    p.c[i] = static_cast<std::int32_t>(v * one_minus<kFused>(s, k_red) * 255.f);
  }
}

template <bool kFused>
FROST_INLINE void scale_pixels(std::uint8_t* pixels, std::size_t count, const HsvTables& tables) {
  Planes planes;
  for (std::size_t done = 0; done < count; done += kBlock) {
    const int n = static_cast<int>(std::min<std::size_t>(kBlock, count - done));
    split(pixels + 3 * done, n, planes);
    to_hsv(planes, n);
    look_up(planes, n, tables);
    to_bgr<kFused>(planes, n);
    join(planes, n, pixels + 3 * done);
  }
}

void scale_plain(std::uint8_t* pixels, std::size_t count, const HsvTables& tables) {
  scale_pixels<false>(pixels, count, tables);
}

#if FROST_TWO_TARGETS
__attribute__((target("avx2,fma"))) void scale_fused(std::uint8_t* pixels, std::size_t count, const HsvTables& tables) {
  scale_pixels<true>(pixels, count, tables);
}
const bool kHasFma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif

template <class Step>
Image by_blocks(const Image& source, Step step) {
  Image out(source.height, source.width);
  const std::size_t count = source.pixels.size() / 3;
  Planes planes;
  for (std::size_t done = 0; done < count; done += kBlock) {
    const int n = static_cast<int>(std::min<std::size_t>(kBlock, count - done));
    split(source.pixels.data() + 3 * done, n, planes);
    step(planes, n);
    join(planes, n, out.pixels.data() + 3 * done);
  }
  return out;
}

}  // namespace

Image bgr_to_hsv(const Image& bgr) {
  return by_blocks(bgr, [](Planes& p, int n) { to_hsv(p, n); });
}

Image hsv_to_bgr(const Image& hsv) {
  return by_blocks(hsv, [](Planes& p, int n) { to_bgr<false>(p, n); });
}

void scale_hsv(Image& bgr, double hue, double saturation, double value) {
  HsvTables tables;
  for (int x = 0; x < 256; ++x) {
    const double turned = std::fmod(x * hue, 180.0);
    tables.hue[x] = static_cast<std::int32_t>(turned < 0 ? turned + 180.0 : turned);
    tables.saturation[x] = static_cast<std::int32_t>(std::clamp(x * saturation, 0.0, 255.0));
    tables.value[x] = static_cast<std::int32_t>(std::clamp(x * value, 0.0, 255.0));
  }
  const std::size_t count = bgr.pixels.size() / 3;
#if FROST_TWO_TARGETS
  if (kHasFma) return scale_fused(bgr.pixels.data(), count, tables);
#endif
  scale_plain(bgr.pixels.data(), count, tables);
}

void flip_columns(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    std::uint8_t* left = image.at(y, 0);
    std::uint8_t* right = image.at(y, image.width - 1);
    for (; left < right; left += 3, right -= 3) {
      for (int c = 0; c < 3; ++c) std::swap(left[c], right[c]);
    }
  }
}

void flip_rows(Image& image) {
  const std::size_t bytes = static_cast<std::size_t>(image.width) * 3;
  for (int top = 0, bottom = image.height - 1; top < bottom; ++top, --bottom) {
    std::swap_ranges(image.at(top, 0), image.at(top, 0) + bytes, image.at(bottom, 0));
  }
}

void swap_red_blue(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
  for (std::size_t i = 0; i < pixels; ++i, in += 3, out += 3) {
    const std::uint8_t first = in[0], second = in[1], third = in[2];
    out[0] = third;
    out[1] = second;
    out[2] = first;
  }
}

void pack_rgb(const Image& bgr, std::uint8_t* rgb) { swap_red_blue(bgr.pixels.data(), rgb, bgr.pixels.size() / 3); }

}  // namespace frost
