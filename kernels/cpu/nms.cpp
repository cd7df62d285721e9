#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/simd.h"
#include "kernels/detect_checks.h"
#include "kernels/math/box_overlap.h"
#include "kernels/math/nms.h"

namespace frost::cpu {
namespace {

using Box = math::Corners<float>;

struct Candidate {
  std::int32_t row, label;
  float confidence;
};

// Class scores times objectness; returns the largest.
float scale_scores(const float* scores, float objectness, float* out, std::int64_t count) {
  float largest = 0;
  simd_range(0, count, [=, &largest](std::int64_t first, std::int64_t last) FROST_LOOP {
    float most = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : most)
    for (std::int64_t i = first; i < last; ++i) {
      out[i] = scores[i] * objectness;
      most = out[i] > most ? out[i] : most;
    }
    largest = most;
  });
  return largest;
}

/// The rows of one image.
struct ImageRows {
  const float* rows;
  std::int64_t count;
};

std::vector<Candidate> find_candidates(const Nms& a, const ImageRows& image) {
  std::vector<Candidate> found;
  std::vector<float> scores(static_cast<std::size_t>(a.classes));
  std::vector<char> wanted(scores.size(), a.keep_classes.empty());
  for (const int label : a.keep_classes)
    if (label >= 0 && label < a.classes) wanted[static_cast<std::size_t>(label)] = 1;

  const float threshold = a.conf_threshold;
  const bool multi_label = a.multi_label && a.classes > 1;
  const auto add = [&](std::int64_t row, std::size_t label) {
    if (wanted[label]) found.push_back({static_cast<std::int32_t>(row), static_cast<std::int32_t>(label), scores[label]});
  };
  for (std::int64_t r = 0; r < image.count; ++r) {
    const float* row = image.rows + r * (5 + a.classes);
    if (!(row[4] > threshold)) continue;
    const float most = scale_scores(row + 5, row[4], scores.data(), a.classes);
    if (!(most > threshold)) continue;
    if (multi_label) {
      for (std::size_t c = 0; c < scores.size(); ++c)
        if (scores[c] > threshold) add(r, c);
    } else {
      add(r, static_cast<std::size_t>(std::find(scores.begin(), scores.end(), most) - scores.begin()));
    }
  }
  return found;
}

// Descending confidence, equal ones in their order of arrival: a radix sort, three passes of 11 bits. Positive floats order
// like their bits, so the complement of the bits, ascending, is what we want.
void sort_by_confidence(std::vector<Candidate>& candidates) {
  constexpr int kBits = 11, kBuckets = 1 << kBits;
  std::vector<Candidate> other(candidates.size());
  for (int pass = 0; pass < 3; ++pass) {
    const auto digit = [pass](const Candidate& c) {
      std::uint32_t bits;
      std::memcpy(&bits, &c.confidence, sizeof bits);
      return (~bits >> (pass * kBits)) & (kBuckets - 1);
    };
    std::array<std::uint32_t, kBuckets> start{};
    for (const auto& c : candidates) ++start[digit(c)];
    std::uint32_t sum = 0;
    for (auto& s : start) sum += std::exchange(s, sum);
    for (const auto& c : candidates) other[start[digit(c)]++] = c;
    candidates.swap(other);
  }
}

// Kept boxes, eight at a time; an empty lane overlaps nothing.
struct Kept {
  static constexpr int kLanes = 8;
  float x1[kLanes], y1[kLanes], x2[kLanes], y2[kLanes], area[kLanes];
  static Kept none() {
    constexpr float inf = std::numeric_limits<float>::infinity();
    Kept k;
    std::fill_n(k.x1, kLanes, inf);
    std::fill_n(k.y1, kLanes, inf);
    std::fill_n(k.x2, kLanes, -inf);
    std::fill_n(k.y2, kLanes, -inf);
    std::fill_n(k.area, kLanes, 0.0f);
    return k;
  }
};

bool overlaps_any(const Box& box, float area, const std::vector<Kept>& kept, float threshold) {
  bool any = false;
  simd_range(0, static_cast<std::int64_t>(kept.size()), [&](std::int64_t first, std::int64_t last) FROST_LOOP {
    for (std::int64_t block = first; block < last && !any; ++block) {
      const Kept& k = kept[static_cast<std::size_t>(block)];
      int hits = 0;
#pragma omp simd reduction(+ : hits)
      for (int i = 0; i < Kept::kLanes; ++i)
        hits += math::box_overlap<float>({k.x1[i], k.y1[i], k.x2[i], k.y2[i]}, k.area[i], box, area, 0.0f) > threshold;
      any = hits != 0;
    }
  });
  return any;
}

// Boxes that were already kept and can meet the next one.
class Bucket {
 public:
  bool suppresses(const Box& box, float area, float threshold) const {
    return !blocks_.empty() && overlaps_any(box, area, blocks_, threshold);
  }
  void keep(const Box& box, float area) {
    const auto lane = count_++ % Kept::kLanes;
    if (lane == 0) blocks_.push_back(Kept::none());
    Kept& k = blocks_.back();
    k.x1[lane] = box.x1, k.y1[lane] = box.y1, k.x2[lane] = box.x2, k.y2[lane] = box.y2, k.area[lane] = area;
  }

 private:
  std::vector<Kept> blocks_;
  std::size_t count_ = 0;
};

// Do offset boxes of different classes stay apart? Then each class is a problem of its own. (Half a class offset is kept in
// hand, far more than the rounding of the offset coordinates.)
bool classes_stay_apart(const Nms& a, const ImageRows& image, const std::vector<Candidate>& candidates) {
  float low = 0, high = 0;
  for (const auto& c : candidates) {
    const Box b = math::corners_of(image.rows + c.row * (5 + a.classes));
    if (!(std::abs(b.x1) + std::abs(b.x2) < math::kClassOffset)) return false;  // NaN too
    low = std::min({low, b.x1, b.x2}), high = std::max({high, b.x1, b.x2});
  }
  return high - low < math::kClassOffset / 2;
}

std::vector<Detection> nms_of(const Nms& a, const ImageRows& image) {
  auto candidates = find_candidates(a, image);
  sort_by_confidence(candidates);
  if (static_cast<std::int64_t>(candidates.size()) > a.max_candidates)
    candidates.resize(static_cast<std::size_t>(a.max_candidates));

  const bool by_class = !a.agnostic && classes_stay_apart(a, image, candidates);
  std::vector<Bucket> buckets(by_class ? static_cast<std::size_t>(a.classes) : 1);
  const float threshold = math::strict_threshold(a.iou_threshold);
  std::vector<Detection> kept;
  // Comparing with kept boxes only is the greedy rule itself, and lets us stop at the last box that is wanted.
  for (const auto& c : candidates) {
    if (static_cast<std::int64_t>(kept.size()) >= a.max_detections) break;
    const Box box = math::corners_of(image.rows + c.row * (5 + a.classes));
    // Reference behaviour: overlaps are measured at coordinates shifted by class, with the rounding that brings.
    const float offset = a.agnostic ? 0.0f : static_cast<float>(c.label) * math::kClassOffset;
    const Box shifted{box.x1 + offset, box.y1 + offset, box.x2 + offset, box.y2 + offset};
    const float area = math::box_area(shifted);
    Bucket& bucket = buckets[by_class ? static_cast<std::size_t>(c.label) : 0];
    if (bucket.suppresses(shifted, area, threshold)) continue;
    bucket.keep(shifted, area);
    kept.push_back({box.x1, box.y1, box.x2, box.y2, c.confidence, c.label});
  }
  return kept;
}

}  // namespace

std::vector<std::vector<Detection>> CpuBackend::nms(const Nms& a) {
  check_nms(a);
  std::vector<ImageRows> images;
  const float* rows = a.rows;
  for (const std::int64_t count : a.row_counts) {
    images.push_back({rows, count});
    rows += count * (5 + a.classes);
  }
  std::vector<std::vector<Detection>> kept(images.size());
  parallel_ranges(static_cast<std::int64_t>(images.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) kept[i] = nms_of(a, images[i]);
  });
  return kept;
}

}  // namespace frost::cpu
