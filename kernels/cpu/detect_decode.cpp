#include <cmath>
#include <limits>
#include <memory>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/simd.h"
#include "kernels/detect_checks.h"
#include "kernels/math/activation.h"
#include "kernels/math/decode.h"
#include "kernels/math/half.h"

namespace frost::cpu {
namespace {

// A logit below this cannot reach the threshold, whatever the rounding of the sigmoid; the others are compared as numbers.
float certain_reject(float threshold) {
  if (!(threshold > 0)) return -std::numeric_limits<float>::infinity();
  if (threshold >= 1) return std::numeric_limits<float>::infinity();
  const double t = threshold;
  return static_cast<float>(std::log(t / (1 - t)) - 1e-3);
}

template <class T>
void sigmoids(const T* logits, float* out, std::int64_t count) {
  simd_range(0, count, [=](std::int64_t first, std::int64_t last) FROST_LOOP {
    for_lanes(last - first,
              [=](std::int64_t i) FROST_LOOP { out[first + i] = math::sigmoid(math::to_float(logits[first + i])); });
  });
}

template <class T>
void decode_level(const DetectLevel& level, std::int64_t image, std::int64_t attributes, float threshold,
                  std::vector<float>& rows) {
  const Shape& s = level.head.shape;
  const T* head = level.head.as<T>() + image * s.h * s.w * level.head.pitch;
  const float reject = certain_reject(threshold);
  for (std::int64_t a = 0; a < s.c / attributes; ++a)
    for (std::int64_t y = 0; y < s.h; ++y)
      for (std::int64_t x = 0; x < s.w; ++x) {
        const T* logits = head + (y * s.w + x) * level.head.pitch + a * attributes;
        // Most cells end here, having touched one number of their row.
        if (math::to_float(logits[4]) < reject) continue;
        const std::size_t at = rows.size();
        rows.resize(at + static_cast<std::size_t>(attributes));
        float* row = rows.data() + at;
        sigmoids(logits, row, attributes);
        if (threshold >= 0 && !(row[4] > threshold)) {
          rows.resize(at);
          continue;
        }
        row[0] = math::decode_centre(row[0], static_cast<float>(x), level.stride);
        row[1] = math::decode_centre(row[1], static_cast<float>(y), level.stride);
        row[2] = math::decode_size(row[2], level.anchors[static_cast<std::size_t>(2 * a)], level.stride);
        row[3] = math::decode_size(row[3], level.anchors[static_cast<std::size_t>(2 * a + 1)], level.stride);
      }
}

}  // namespace

DecodedRows CpuBackend::detect_decode(const DetectDecode& d) {
  check_detect_decode(d);
  const std::int64_t attributes = 5 + d.classes, batch = d.levels.front().head.shape.n;
  for (const auto& level : d.levels) {
    const ConstView& head = level.head;
    FROST_CHECK(head.dtype == DType::f32 || head.dtype == DType::bf16, "detect_decode: head is ", name_of(head.dtype),
                ", expected f32 or bf16");
  }
  std::vector<std::vector<float>> images(static_cast<std::size_t>(batch));
  parallel_ranges(batch, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t image = first; image < last; ++image) {
      auto& rows = images[static_cast<std::size_t>(image)];
      for (const auto& level : d.levels) {
        if (level.head.dtype == DType::f32)
          decode_level<float>(level, image, attributes, d.conf_threshold, rows);
        else
          decode_level<math::bf16>(level, image, attributes, d.conf_threshold, rows);
      }
    }
  });
  const auto all = std::make_shared<std::vector<float>>();
  DecodedRows rows;
  for (const auto& image : images) {
    all->insert(all->end(), image.begin(), image.end());
    rows.counts.push_back(static_cast<std::int64_t>(image.size()) / attributes);
  }
  rows.memory = {all, all->data()};
  return rows;
}

}  // namespace frost::cpu
