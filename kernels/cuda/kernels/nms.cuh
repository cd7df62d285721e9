#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cuda/kernels/atomics.cuh"
#include "kernels/cuda/kernels/vector_access.cuh"
#include "kernels/cuda/kernels/workspace_layout.h"
#include "kernels/detect_checks.h"
#include "kernels/math/box_overlap.h"
#include "kernels/math/nms.h"

/// Non-maximum suppression over a launcher (kernel_launch.cuh). A candidate is a 64-bit key: the complement of its
/// confidence's bits, then the order of its arrival, row of its image * classes + label. Keys differ, so sorting them is a
/// stable sort by falling confidence, and the order in which threads found them does not matter. Then one block for each
/// image takes them greedily. Rows stay where detect_decode wrote them; only detections are copied to the host.
namespace frost::cuda {

struct NmsImage {
  std::int64_t first_row, rows, first_key;
};

struct NmsPlan {
  const float* rows;  // (all images' rows, 5 + classes)
  std::int64_t classes;
  float conf_threshold, iou_threshold;
  bool multi_label, agnostic;
  const std::uint8_t* wanted;  // (classes); null: all
  const NmsImage* images;
  std::uint64_t* keys;  // image after image
  std::int32_t* found;  // (images): number of keys

  FROST_HD int image_of(std::int64_t row) const {
    int image = 0;
    while (row >= images[image].first_row + images[image].rows) ++image;
    return image;
  }
  FROST_HD const float* row(std::int64_t image, std::uint64_t key) const {
    return rows + (images[image].first_row + arrival(key) / static_cast<std::uint32_t>(classes)) * (5 + classes);
  }
  FROST_HD int label(std::uint64_t key) const {
    return static_cast<int>(arrival(key) % static_cast<std::uint32_t>(classes));
  }
  FROST_HD static std::uint32_t arrival(std::uint64_t key) { return static_cast<std::uint32_t>(key); }
  FROST_HD static float confidence(std::uint64_t key) {
    return math::bits_as<float>(~static_cast<std::uint32_t>(key >> 32));
  }
};

/// Lower bound: writes 4 bytes an image.
struct ClearFound {
  NmsPlan plan;
  FROST_HD void operator()(std::int64_t image) const { plan.found[image] = 0; }
};

/// Item: a row of 5 + classes values, which begins anywhere: read one by one, a sector's 8 from the cache. Counts its
/// image's candidates or (`write`) adds their keys. Lower bound: reads the rows once each time.
template <bool write>
struct FindCandidates {
  NmsPlan plan;
  FROST_HD void operator()(std::int64_t r) const {
    const float* row = plan.rows + r * (5 + plan.classes);
    const float objectness = row[4];
    if (!(objectness > plan.conf_threshold)) return;
    const int image = plan.image_of(r);
    float best = plan.conf_threshold;
    std::int64_t label = -1;
    for (std::int64_t c = 0; c < plan.classes; ++c) {
      const float score = row[5 + c] * objectness;
      if (plan.multi_label) {
        if (score > plan.conf_threshold) add(image, r, c, score);
      } else if (score > best) {  // the first of equal ones
        best = score;
        label = c;
      }
    }
    if (label >= 0) add(image, r, label, best);
  }

 private:
  FROST_HD void add(int image, std::int64_t row, std::int64_t label, float score) const {
    if (plan.wanted && !plan.wanted[label]) return;
    const std::int32_t at = atomic_add(plan.found + image, 1);
    if constexpr (write) {
      const NmsImage& of = plan.images[image];
      const auto falling = static_cast<std::uint64_t>(~math::bits_as<std::uint32_t>(score));
      plan.keys[of.first_key + at] = falling << 32 | static_cast<std::uint32_t>((row - of.first_row) * plan.classes + label);
    }
  }
};

/// A block keeps an image's boxes in the order of the sorted keys, 1024 candidates at a time: those that a kept box overlaps
/// fall, the first that is left is kept, and so on until none is left. Comparing with kept boxes only is the greedy rule
/// itself. Lower bound: a round (3 barriers) for each kept box and each 1024 candidates; kept boxes are read from the cache.
struct KeepBest {
  static constexpr int kThreads = 1024, kPhases = 3;
  static constexpr std::int32_t kNobody = 0x7fffffff;
  struct Placed {
    math::Corners<float> box;
    float area;
  };
  struct Shared {
    Placed kept;
    std::int32_t candidates, first, count, winner;  // in all; of the 1024; kept so far; the next to be kept
    bool fresh, done;
  };
  struct Own {
    Placed mine;
    std::int32_t winner;
    bool alive;
  };
  NmsPlan plan;
  const std::uint64_t* sorted;         // image after image
  std::int32_t most, most_candidates;  // to be kept, and looked at, in an image
  Detection* kept;                     // (images, most)
  std::int32_t* kept_count;            // (images)

  FROST_HD void start(std::int64_t image, int thread, Shared& shared, Own&) const {
    if (thread > 0) return;
    const std::int32_t found = plan.found[image];
    shared.candidates = found < most_candidates ? found : most_candidates;
    shared.first = shared.count = 0;
    shared.winner = kNobody;
    shared.fresh = true;
    shared.done = shared.candidates == 0;
  }
  FROST_HD bool done(const Shared& shared) const { return shared.done; }

  template <int phase>
  FROST_HD void run(std::int64_t image, int thread, Shared& shared, Own& own) const {
    const std::uint64_t* keys = sorted + plan.images[image].first_key;
    Detection* mine = kept + image * most;
    if constexpr (phase == 0) {
      const std::int64_t index = std::int64_t{shared.first} + thread;
      if (shared.fresh) {
        own.alive = index < shared.candidates;
        if (own.alive) own.mine = placed(image, keys[index]);
        for (std::int32_t k = 0; own.alive && k < shared.count; ++k) own.alive = !overlaps(placed(mine[k]), own.mine);
      }
      if (own.alive) atomic_min(&shared.winner, thread);
    } else if constexpr (phase == 1) {
      own.winner = shared.winner;
      if (own.winner != thread) return;
      const std::uint64_t key = keys[std::int64_t{shared.first} + thread];
      const math::Corners<float> b = math::corners_of(plan.row(image, key));
      mine[shared.count] = {b.x1, b.y1, b.x2, b.y2, plan.confidence(key), plan.label(key)};
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
      shared.done = shared.first >= shared.candidates || shared.count >= most;
    }
  }
  FROST_HD void finish(std::int64_t image, int thread, const Shared& shared, Own&) const {
    if (thread == 0) kept_count[image] = shared.count;
  }

 private:
  // Reference behaviour: overlaps are measured at coordinates shifted by class, with the rounding that brings.
  FROST_HD Placed placed(const math::Corners<float>& b, int label) const {
    const float offset = plan.agnostic ? 0.0f : static_cast<float>(label) * math::kClassOffset;
    const math::Corners<float> shifted{b.x1 + offset, b.y1 + offset, b.x2 + offset, b.y2 + offset};
    return {shifted, math::box_area(shifted)};
  }
  FROST_HD Placed placed(std::int64_t image, std::uint64_t key) const {
    return placed(math::corners_of(plan.row(image, key)), plan.label(key));
  }
  FROST_HD Placed placed(const Detection& d) const { return placed({d.x1, d.y1, d.x2, d.y2}, d.label); }
  FROST_HD bool overlaps(const Placed& a, const Placed& b) const {
    return math::box_overlap(a.box, a.area, b.box, b.area, 0.0f) > plan.iou_threshold;
  }
};

/// Item: 16 bytes of what goes to the host, so that all of it was written. Lower bound: writes it once.
struct ClearResults {
  char* bytes;
  FROST_HD void operator()(std::int64_t i) const { fill<kVectorBytes>(bytes + i * kVectorBytes, '\0', kVectorBytes); }
};

/// Waits for the device: for the numbers of candidates, then for the detections. `launch` also sorts keys.
template <class Launcher>
std::vector<std::vector<Detection>> nms(const Launcher& launch, const Nms& a) {
  check_nms(a);
  std::vector<std::vector<Detection>> out(a.row_counts.size());
  std::vector<NmsImage> images;
  std::int64_t rows = 0;
  for (const std::int64_t count : a.row_counts) {
    images.push_back({rows, count, 0});
    rows += count;
  }
  if (rows == 0 || a.max_detections <= 0 || a.max_candidates <= 0) return out;

  const auto image_count = static_cast<std::int64_t>(images.size());
  std::vector<std::uint8_t> flags(static_cast<std::size_t>(a.classes), a.keep_classes.empty());
  for (const int label : a.keep_classes)
    if (label >= 0 && label < a.classes) flags[static_cast<std::size_t>(label)] = 1;
  NmsPlan p{};
  p.rows = a.rows, p.classes = a.classes;
  p.conf_threshold = a.conf_threshold, p.iou_threshold = math::strict_threshold(a.iou_threshold);
  p.multi_label = a.multi_label && a.classes > 1, p.agnostic = a.agnostic;
  NmsImage* device_images = nullptr;
  std::uint8_t* wanted = nullptr;
  const auto cut_first = [&](void* memory) {
    Cut cut(memory);
    device_images = cut.take<NmsImage>(image_count);
    wanted = cut.take<std::uint8_t>(a.classes);
    p.found = cut.take<std::int32_t>(image_count);
    return cut.bytes();
  };
  const PersistentWorkspace first = launch.keep(cut_first(nullptr));
  cut_first(first.get());
  p.images = device_images;
  launch.to_device(device_images, images.data(), images.size() * sizeof(NmsImage));
  if (!a.keep_classes.empty()) {
    launch.to_device(wanted, flags.data(), flags.size());
    p.wanted = wanted;
  }
  launch.items(image_count, ClearFound{p});
  launch.items(rows, FindCandidates<false>{p});
  std::vector<std::int32_t> found(images.size());
  launch.to_host(found.data(), p.found, found.size() * sizeof(std::int32_t));

  std::int64_t keys = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    images[i].first_key = keys;
    keys += found[i];
  }
  if (keys == 0) return out;
  const std::int32_t largest = *std::max_element(found.begin(), found.end());
  const auto most_candidates = static_cast<std::int32_t>(std::min<std::int64_t>(largest, a.max_candidates));
  const auto most = static_cast<std::int32_t>(std::min<std::int64_t>(most_candidates, a.max_detections));
  const std::size_t sort_bytes = launch.sort_bytes(largest);
  std::uint64_t* sorted = nullptr;
  char *sort_memory = nullptr, *end = nullptr;
  std::int32_t* kept_count = nullptr;
  Detection* kept = nullptr;
  const auto cut_second = [&](void* memory) {
    Cut cut(memory);
    p.keys = cut.take<std::uint64_t>(keys);
    sorted = cut.take<std::uint64_t>(keys);
    sort_memory = cut.take<char>(static_cast<std::int64_t>(sort_bytes));
    kept_count = cut.take<std::int32_t>(image_count);
    kept = cut.take<Detection>(image_count * most);
    end = cut.take<char>(0);
    return cut.bytes();
  };
  const PersistentWorkspace second = launch.keep(cut_second(nullptr));
  cut_second(second.get());
  launch.to_device(device_images, images.data(), images.size() * sizeof(NmsImage));
  launch.items(image_count, ClearFound{p});
  launch.items(rows, FindCandidates<true>{p});
  char* results = reinterpret_cast<char*>(kept_count);                  // numbers and boxes are adjacent: one transfer
  launch.items((end - results) / kVectorBytes, ClearResults{results});  // Cut: arrays begin at multiples of 256 bytes
  for (std::size_t i = 0; i < images.size(); ++i)
    if (found[i] > 0)
      launch.sort(p.keys + images[i].first_key, sorted + images[i].first_key, found[i], sort_memory, sort_bytes);
  launch.rounds(image_count, KeepBest{p, sorted, most, most_candidates, kept, kept_count});

  std::vector<char> host(static_cast<std::size_t>(end - results));
  launch.to_host(host.data(), results, host.size());
  const char* boxes = host.data() + (reinterpret_cast<const char*>(kept) - results);
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::int32_t count = 0;
    std::memcpy(&count, host.data() + i * sizeof count, sizeof count);
    out[i].resize(static_cast<std::size_t>(count));
    if (count > 0)
      std::memcpy(out[i].data(), boxes + i * static_cast<std::size_t>(most) * sizeof(Detection),
                  out[i].size() * sizeof(Detection));
  }
  return out;
}

}  // namespace frost::cuda
