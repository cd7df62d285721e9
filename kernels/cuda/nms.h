#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cuda/atomics.h"
#include "kernels/cuda/cut.h"
#include "kernels/cuda/launch.h"
#include "kernels/detect_checks.h"
#include "kernels/math/box_overlap.h"

/// Non-maximum suppression over a launcher (run.h). A candidate is a 64-bit key: the complement of its confidence's bits,
/// then the order of its arrival, row * classes + label. Keys differ, so sorting them is a stable sort by falling
/// confidence, and the order in which threads found them does not matter. Then one block walks them greedily.
namespace frost::cuda {

inline constexpr float kClassOffset = 7680;

struct NmsPlan {
  const float* rows;  // (row_count, 5 + classes)
  std::int64_t row_count, classes;
  float conf_threshold, iou_threshold;
  bool multi_label, agnostic;
  const std::uint8_t* wanted;  // (classes); null: all
  std::uint64_t* keys;
  std::int32_t* found;  // number of keys

  FROST_HD const float* row(std::uint64_t key) const {
    return rows + static_cast<std::int64_t>(arrival(key) / static_cast<std::uint32_t>(classes)) * (5 + classes);
  }
  FROST_HD int label(std::uint64_t key) const {
    return static_cast<int>(arrival(key) % static_cast<std::uint32_t>(classes));
  }
  FROST_HD static std::uint32_t arrival(std::uint64_t key) { return static_cast<std::uint32_t>(key); }
  FROST_HD static float confidence(std::uint64_t key) {
    return math::bits_as<float>(~static_cast<std::uint32_t>(key >> 32));
  }
  FROST_HD void add(std::int64_t row, std::int64_t label, float score) const {
    if (wanted && !wanted[label]) return;
    const auto falling = static_cast<std::uint64_t>(~math::bits_as<std::uint32_t>(score));
    keys[atomic_add(found, 1)] = falling << 32 | static_cast<std::uint32_t>(row * classes + label);
  }
};

struct ClearFound {
  NmsPlan plan;
  FROST_HD void operator()(std::int64_t) const { *plan.found = 0; }
};

/// Item: a row. Floor: reads the rows once.
struct FindCandidates {
  NmsPlan plan;
  FROST_HD void operator()(std::int64_t r) const {
    const float* row = plan.rows + r * (5 + plan.classes);
    const float objectness = row[4];
    if (!(objectness > plan.conf_threshold)) return;
    float best = plan.conf_threshold;
    std::int64_t label = -1;
    for (std::int64_t c = 0; c < plan.classes; ++c) {
      const float score = row[5 + c] * objectness;
      if (plan.multi_label) {
        if (score > plan.conf_threshold) plan.add(r, c, score);
      } else if (score > best) {  // the first of equal ones
        best = score;
        label = c;
      }
    }
    if (label >= 0) plan.add(r, label, best);
  }
};

/// One block keeps boxes in the order of the sorted keys, 1024 candidates at a time: those that a kept box overlaps fall,
/// the first that is left is kept, and so on until none is left. Comparing with kept boxes only is the greedy rule itself.
/// Floor: a round (3 barriers) for each kept box and each 1024 candidates; kept boxes are read from the cache.
struct KeepBest {
  static constexpr int kThreads = 1024, kPhases = 3;
  static constexpr std::int32_t kNobody = 0x7fffffff;
  struct Placed {
    math::Corners<float> box;
    float area;
  };
  struct Shared {
    Placed kept;
    std::int32_t first, count, winner;  // of the 1024; kept so far; the next to be kept
    bool fresh, done;
  };
  struct Own {
    Placed mine;
    std::int32_t winner;
    bool alive;
  };
  NmsPlan plan;
  const std::uint64_t* sorted;
  std::int32_t candidates, most;
  Detection* kept;  // (most)
  std::int32_t* kept_count;

  FROST_HD void start(std::int64_t, int thread, Shared& shared, Own&) const {
    if (thread > 0) return;
    shared.first = shared.count = 0;
    shared.winner = kNobody;
    shared.fresh = true;
    shared.done = candidates == 0 || most == 0;
  }
  FROST_HD bool done(const Shared& shared) const { return shared.done; }

  template <int phase>
  FROST_HD void run(std::int64_t, int thread, Shared& shared, Own& own) const {
    if constexpr (phase == 0) {
      const std::int64_t index = std::int64_t{shared.first} + thread;
      if (shared.fresh) {
        own.alive = index < candidates;
        if (own.alive) own.mine = placed(sorted[index]);
        for (std::int32_t k = 0; own.alive && k < shared.count; ++k) own.alive = !overlaps(placed(kept[k]), own.mine);
      }
      if (own.alive) atomic_min(&shared.winner, thread);
    } else if constexpr (phase == 1) {
      own.winner = shared.winner;
      if (own.winner != thread) return;
      const std::uint64_t key = sorted[std::int64_t{shared.first} + thread];
      const math::Corners<float> b = corners(plan.row(key));
      kept[shared.count] = {b.x1, b.y1, b.x2, b.y2, plan.confidence(key), plan.label(key)};
      shared.kept = own.mine;
      own.alive = false;
    } else {
      if (own.alive && own.winner != kNobody && overlaps(shared.kept, own.mine)) own.alive = false;
      if (thread > 0) return;
      shared.fresh = own.winner == kNobody;
      if (shared.fresh)
        shared.first += kThreads;
      else
        ++shared.count;
      shared.winner = kNobody;
      shared.done = shared.first >= candidates || shared.count >= most;
    }
  }
  FROST_HD void finish(std::int64_t, int thread, const Shared& shared, Own&) const {
    if (thread == 0) *kept_count = shared.count;
  }

 private:
  FROST_HD static math::Corners<float> corners(const float* row) {
    return {row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2};
  }
  // Reference behaviour: overlaps are measured at coordinates shifted by class, with the rounding that brings.
  FROST_HD Placed placed(const math::Corners<float>& b, int label) const {
    const float offset = plan.agnostic ? 0.0f : static_cast<float>(label) * kClassOffset;
    const math::Corners<float> shifted{b.x1 + offset, b.y1 + offset, b.x2 + offset, b.y2 + offset};
    return {shifted, math::box_area(shifted)};
  }
  FROST_HD Placed placed(std::uint64_t key) const { return placed(corners(plan.row(key)), plan.label(key)); }
  FROST_HD Placed placed(const Detection& d) const { return placed({d.x1, d.y1, d.x2, d.y2}, d.label); }
  FROST_HD bool overlaps(const Placed& a, const Placed& b) const {
    return math::box_overlap(a.box, a.area, b.box, b.area, 0.0f) > plan.iou_threshold;
  }
};

/// The largest float that is not above the threshold: comparing with it decides like the comparison in double.
inline float strict_threshold(double threshold) {
  const auto nearest = static_cast<float>(threshold);
  return static_cast<double>(nearest) > threshold ? std::nextafter(nearest, 0.0f) : nearest;
}

/// Waits for the device twice: for the number of candidates, and for the detections. `launch` also sorts keys.
template <class Launcher>
std::vector<Detection> nms(const Launcher& launch, const Nms& a) {
  check_nms(a);
  const std::int64_t labels = a.multi_label && a.classes > 1 ? a.classes : 1, most_keys = a.row_count * labels;
  FROST_CHECK(fits_int32(a.row_count * a.classes), "nms: ", a.row_count, " rows of ", a.classes, " classes are too many");
  if (a.row_count == 0 || a.max_detections <= 0 || a.max_candidates <= 0) return {};
  NmsPlan p{};
  p.row_count = a.row_count, p.classes = a.classes;
  p.conf_threshold = a.conf_threshold, p.iou_threshold = strict_threshold(a.iou_threshold);
  p.multi_label = labels > 1, p.agnostic = a.agnostic;
  const std::int64_t values = a.row_count * (5 + a.classes);
  const std::int64_t most = std::min({a.max_detections, a.max_candidates, most_keys});
  const std::size_t sort_bytes = launch.sort_bytes(most_keys);
  float* rows = nullptr;
  std::uint8_t* wanted = nullptr;
  std::uint64_t* sorted = nullptr;
  std::int32_t* kept_count = nullptr;
  Detection* kept = nullptr;
  char* sort_memory = nullptr;
  const auto cut_all = [&](void* memory) {
    Cut cut(memory);
    rows = cut.take<float>(values);
    wanted = cut.take<std::uint8_t>(a.classes);
    p.keys = cut.take<std::uint64_t>(most_keys);
    sorted = cut.take<std::uint64_t>(most_keys);
    p.found = cut.take<std::int32_t>(1);
    kept_count = cut.take<std::int32_t>(1);
    kept = cut.take<Detection>(most);
    sort_memory = cut.take<char>(static_cast<std::int64_t>(sort_bytes));
    return cut.bytes();
  };
  cut_all(launch.scratch(cut_all(nullptr)));
  p.rows = rows;
  launch.to_device(rows, a.rows, static_cast<std::size_t>(values) * sizeof(float));
  if (!a.keep_classes.empty()) {
    std::vector<std::uint8_t> flags(static_cast<std::size_t>(a.classes), 0);
    for (const int label : a.keep_classes)
      if (label >= 0 && label < a.classes) flags[static_cast<std::size_t>(label)] = 1;
    launch.to_device(wanted, flags.data(), flags.size());
    p.wanted = wanted;
  }
  launch.items(1, ClearFound{p});
  launch.items(a.row_count, FindCandidates{p});
  std::int32_t found = 0;
  launch.to_host(&found, p.found, sizeof found);
  if (found == 0) return {};
  launch.sort(p.keys, sorted, found, sort_memory, sort_bytes);
  launch.rounds(1, KeepBest{p, sorted, static_cast<std::int32_t>(std::min<std::int64_t>(found, a.max_candidates)),
                            static_cast<std::int32_t>(most), kept, kept_count});
  std::int32_t count = 0;
  launch.to_host(&count, kept_count, sizeof count);
  std::vector<Detection> out(static_cast<std::size_t>(count));
  if (count > 0) launch.to_host(out.data(), kept, out.size() * sizeof(Detection));
  return out;
}

}  // namespace frost::cuda
