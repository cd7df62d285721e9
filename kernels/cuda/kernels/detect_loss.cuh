#pragma once
#include <algorithm>

#include "kernels/cuda/kernels/atomics.cuh"
#include "kernels/cuda/kernels/block_sum.cuh"
#include "kernels/cuda/kernels/detect_level.h"
#include "kernels/cuda/kernels/launch.cuh"
#include "kernels/cuda/kernels/scalar_access.cuh"
#include "kernels/cuda/kernels/vector_items.cuh"
#include "kernels/cuda/kernels/workspace_layout.h"
#include "kernels/detect_checks.h"
#include "kernels/dispatch.h"
#include "kernels/math/assign.h"
#include "kernels/math/bce.h"
#include "kernels/math/box_iou.h"

/// The detection loss over a launcher (kernel_launch.cuh), all in the device's memory. An assignment is named by its key,
/// its position in the list of docs/spec/loss.md section 2 if every target had an entry for every group and anchor:
/// (group * anchors + anchor) * capacity + target. Sizes depend only on shapes and the capacity; the host counts nothing:
///   Clear       newest = none for every prediction
///   Assign      keys that are entries are chained to their prediction
///   EntryLosses the chain's largest key (the list's last entry) answers for the whole chain: box and class losses and
///               gradients, and the objectness target
///   Objectness  the loss of every cell and its gradient, one thread each
///   Stream      writes the gradient maps: zeros, the objectness gradient, and nothing where EntryLosses has written
///   Finish      results, balances
/// Chains are built with atomics, so their order is random; the results do not depend on it.
namespace frost::cuda {

inline constexpr std::int32_t kChainEnd = -1, kNoEntry = -2;

struct LossLevel : HeadLevel {
  void* dhead;  // null: no gradient wanted
  DType dhead_type;
  std::int64_t dhead_pitch;
  std::int64_t predictions, first_prediction;  // (image, row, column, anchor), anchors fastest; counted over the levels
  std::int64_t keys, first_key;
  int entry_blocks, first_entry_block, objectness_blocks, first_objectness_block;

  FROST_HD math::Grid grid() const { return {columns, rows}; }
  FROST_HD std::int64_t prediction_of(const math::Assigned& e) const {
    return ((std::int64_t{e.image} * rows + e.row) * columns + e.column) * anchors + e.anchor;
  }
  /// Where a prediction's logits and their gradients begin.
  FROST_HD std::int64_t head_at(std::int64_t prediction, std::int64_t attributes) const {
    return prediction / anchors * pitch + prediction % anchors * attributes;
  }
  FROST_HD std::int64_t dhead_at(std::int64_t prediction, std::int64_t attributes) const {
    return prediction / anchors * dhead_pitch + prediction % anchors * attributes;
  }
};

/// What all the kernels read.
struct LossPlan {
  LossLevel level[kMostLevels];
  int levels, middle;  // middle: the level of stride 16, or -1
  std::int64_t classes, capacity, predictions, keys;
  int entry_blocks, objectness_blocks;
  DetectLossGains gains;
  bool autobalance;
  const float *targets, *grad_scale;
  float *balance, *result;

  std::int32_t* newest;    // (predictions): the key that came last to a prediction's chain, or kChainEnd
  std::int32_t* earlier;   // (keys): the key that came before, kChainEnd, or kNoEntry: the key is none
  float* objectness;       // (predictions): an assigned one's target, then everyone's gradient
  std::int32_t* counters;  // (levels) entries, then how many targets are impossible
  float* entry_sums;       // (entry_blocks, 2): box, class
  float* objectness_sums;  // (objectness_blocks)

  FROST_HD std::int64_t attributes() const { return 5 + classes; }
  FROST_HD double batch() const { return level[0].images; }
  FROST_HD double scale() const { return batch() * static_cast<double>(grad_scale ? *grad_scale : 1.0f); }
  FROST_HD double entries(int l) const { return counters[l] > 1 ? counters[l] : 1; }

  FROST_HD math::TargetRow target(std::int64_t t) const {
    const float* row = targets + 6 * t;
    return {row[0], row[1], row[2], row[3], row[4], row[5]};
  }
  FROST_HD bool entry(const LossLevel& l, std::int64_t key, math::Assigned& out) const {
    const auto anchor = static_cast<int>(key / capacity % l.anchors);
    const auto group = static_cast<int>(key / capacity / l.anchors);
    return math::assign(target(key % capacity), group, anchor, l.anchor_w[anchor], l.anchor_h[anchor], gains.anchor_t,
                        l.grid(), out);
  }
};

/// Item: 4 predictions. Lower bound: writes 4 bytes for each prediction.
struct ClearPredictions {
  static constexpr int kWidth = kVectorBytes / sizeof(std::int32_t);
  LossPlan plan;
  FROST_HD void operator()(std::int64_t i) const {
    const std::int64_t first = i * kWidth, left = plan.predictions - first;
    if (left > 0) fill<kWidth>(plan.newest + first, kChainEnd, left < kWidth ? static_cast<int>(left) : kWidth);
    if (i <= plan.levels) plan.counters[i] = 0;
  }
};

/// Item: a key of any level; what it names may be anywhere in memory. Lower bound: the targets, from the cache, and 4 bytes
/// written for each key.
struct AssignTargets {
  LossPlan plan;
  FROST_HD void operator()(std::int64_t i) const {
    const int index = level_of(plan.level, plan.levels, i, &LossLevel::first_key);
    const LossLevel& l = plan.level[index];
    const std::int64_t key = i - l.first_key;
    const math::TargetState state =
        math::state_of(plan.target(key % plan.capacity), static_cast<float>(l.images), static_cast<float>(plan.classes));
    if (state == math::TargetState::impossible && i < plan.capacity) atomic_add(plan.counters + plan.levels, 1);
    math::Assigned entry;
    std::int32_t before = kNoEntry;
    if (state == math::TargetState::possible && plan.entry(l, key, entry)) {
      before = atomic_exchange(plan.newest + l.first_prediction + l.prediction_of(entry), static_cast<std::int32_t>(key));
      atomic_add(plan.counters + index, 1);
    }
    plan.earlier[i] = before;
  }
};

/// 32 threads side by side to an assigned prediction, whose 5 + classes values begin anywhere: one at a time. Lower bound:
/// reads its logits once, writes their gradient once.
struct EntryLosses {
  static constexpr int kThreads = 256, kPhases = 3, kLanes = 32, kGroups = kThreads / kLanes;
  using Shared = BlockSum<float, 2>;
  struct Own {
    float sums[2];
  };
  LossPlan plan;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    if constexpr (phase == 0) {
      const int index = level_of(plan.level, plan.levels, block, &LossLevel::first_entry_block);
      const LossLevel& l = plan.level[index];
      const std::int64_t first = (block - l.first_entry_block) * kGroups + thread / kLanes;
      for (std::int64_t key = first; key < l.keys; key += std::int64_t{l.entry_blocks} * kGroups)
        if (plan.earlier[l.first_key + key] != kNoEntry) answer(index, l, key, thread % kLanes, own);
    }
    if constexpr (phase == 0) shared.put(thread, own.sums);
    if constexpr (phase == 1) shared.fold(thread);
    if constexpr (phase == 2)
      if (thread < 2) plan.entry_sums[2 * block + thread] = shared.total(thread);
  }

 private:
  FROST_HD void answer(int index, const LossLevel& l, std::int64_t key, int lane, Own& own) const {
    math::Assigned mine{};
    plan.entry(l, key, mine);
    const std::int64_t prediction = l.prediction_of(mine), attributes = plan.attributes();
    const std::int32_t *newest = plan.newest + l.first_prediction + prediction, *earlier = plan.earlier + l.first_key;
    std::int32_t last = kChainEnd;
    int length = 0;
    for (std::int32_t k = *newest; k >= 0; k = earlier[k], ++length) last = k > last ? k : last;
    if (last != key) return;

    const double entries = plan.entries(index), scale = plan.scale();
    const auto d_box = static_cast<float>(scale * static_cast<double>(plan.gains.box) / entries);
    const std::int64_t at = l.head_at(prediction, attributes), d_at = l.dhead_at(prediction, attributes);
    if (lane == 0) box_losses(l, mine, *newest, length, d_box, at, d_at, prediction, own);
    if (plan.classes == 1) {  // no class loss, and its logit no gradient
      if (lane == 0 && l.dhead) store_value(l.dhead, l.dhead_type, d_at + 5, 0.0f);
      return;
    }

    const auto d_cls =
        static_cast<float>(scale * static_cast<double>(plan.gains.cls) / (entries * static_cast<double>(plan.classes)));
    const float smooth = 0.5f * plan.gains.label_smoothing;
    for (std::int64_t c = lane; c < plan.classes; c += kLanes) {
      int named = 0;  // entries of the chain whose class this is
      for (std::int32_t k = *newest; k >= 0; k = earlier[k])
        named += static_cast<std::int64_t>(plan.targets[6 * (k % plan.capacity) + 1]) == c;
      const float x = load_value(l.head, l.type, at + 5 + c);
      const auto yes = math::bce_with_logits(x, 1 - smooth, plan.gains.cls_pw, plan.gains.fl_gamma);
      const auto no = math::bce_with_logits(x, smooth, plan.gains.cls_pw, plan.gains.fl_gamma);
      const auto yeses = static_cast<float>(named), noes = static_cast<float>(length - named);
      // Not 0 * value: the value may be infinite.
      own.sums[1] += (named > 0 ? yeses * yes.value : 0.0f) + (length > named ? noes * no.value : 0.0f);
      if (l.dhead)
        store_value(l.dhead, l.dhead_type, d_at + 5 + c,
                    d_cls * ((named > 0 ? yeses * yes.slope : 0.0f) + (length > named ? noes * no.slope : 0.0f)));
    }
  }

  // Box losses of a chain in the order of falling keys, whatever order the chain has: a few entries, mostly one.
  FROST_HD void box_losses(const LossLevel& l, const math::Assigned& mine, std::int32_t newest, int length, float d_box,
                           std::int64_t at, std::int64_t d_at, std::int64_t prediction, Own& own) const {
    const std::int32_t* earlier = plan.earlier + l.first_key;
    const math::Box<float> logit{load_value(l.head, l.type, at), load_value(l.head, l.type, at + 1),
                                 load_value(l.head, l.type, at + 2), load_value(l.head, l.type, at + 3)};
    math::Box<float> d{0, 0, 0, 0};
    std::int32_t below = std::int32_t{0x7fffffff};
    for (int n = 0; n < length; ++n) {
      std::int32_t key = kChainEnd;
      for (std::int32_t k = newest; k >= 0; k = earlier[k]) key = k < below && k > key ? k : key;
      below = key;
      math::Assigned e{};
      plan.entry(l, key, e);
      const auto term = math::box_term(logit, l.anchor_w[mine.anchor], l.anchor_h[mine.anchor],
                                       math::Box<float>{e.x, e.y, e.w, e.h}, d_box);
      own.sums[0] += 1 - term.ciou;
      d.x += term.d.x, d.y += term.d.y, d.w += term.d.w, d.h += term.d.h;
      if (n == 0)  // the list's last entry decides; as std::max, a NaN becomes 0
        plan.objectness[l.first_prediction + prediction] = rounded_to(l.type, 0.0f < term.ciou ? term.ciou : 0.0f);
    }
    if (!l.dhead) return;
    store_value(l.dhead, l.dhead_type, d_at, d.x);
    store_value(l.dhead, l.dhead_type, d_at + 1, d.y);
    store_value(l.dhead, l.dhead_type, d_at + 2, d.w);
    store_value(l.dhead, l.dhead_type, d_at + 3, d.h);
  }
};

/// Lower bound: reads one logit (a sector of 32 bytes, too far apart for wide accesses) and 4 bytes for each prediction,
/// writes 4.
struct Objectness {
  static constexpr int kThreads = 256, kPhases = 3;
  using Shared = BlockSum<float, 1>;
  struct Own {
    float sums[1];
  };
  LossPlan plan;

  template <int phase>
  FROST_HD void run(std::int64_t block, int thread, Shared& shared, Own& own) const {
    if constexpr (phase == 0) {
      const int index = level_of(plan.level, plan.levels, block, &LossLevel::first_objectness_block);
      const LossLevel& l = plan.level[index];
      const auto d_obj = static_cast<float>(plan.scale() * static_cast<double>(plan.gains.obj) *
                                            static_cast<double>(plan.balance[index]) / static_cast<double>(l.predictions));
      const std::int64_t step = std::int64_t{l.objectness_blocks} * kThreads;
      for (std::int64_t i = (block - l.first_objectness_block) * kThreads + thread; i < l.predictions; i += step) {
        float* objectness = plan.objectness + l.first_prediction + i;
        const float target = plan.newest[l.first_prediction + i] >= 0 ? *objectness : 0.0f;
        const float x = load_value(l.head, l.type, l.head_at(i, plan.attributes()) + 4);
        const auto term = math::bce_with_logits(x, target, plan.gains.obj_pw, plan.gains.fl_gamma);
        own.sums[0] += term.value;
        *objectness = d_obj * term.slope;
      }
    }
    if constexpr (phase == 0) shared.put(thread, own.sums);
    if constexpr (phase == 1) shared.fold(thread);
    if constexpr (phase == 2)
      if (thread == 0) plan.objectness_sums[block] = shared.total(0);
  }
};

/// Item i: `width` values of a pixel of a level's gradient map, or of the whole map where it is packed. Lower bound: writes
/// the map once.
template <class T, int width>
struct StreamGradient {
  Items items;
  Plane<T> dhead;
  Divider attributes;
  std::int64_t anchors;
  const std::int32_t* newest;
  const float* objectness;

  FROST_HD void operator()(std::int64_t i) const {
    const Place at = items.at(i);
    const auto [anchor, begin] = divide(at.channel, attributes);
    std::int64_t prediction = at.pixel * anchors + anchor, attribute = begin;
    bool assigned = newest[prediction] >= 0, whole = at.count == width;
    Lanes<width> out;
    bool mine[width];
    FROST_UNROLL
    for (int j = 0; j < width; ++j) {
      out[j] = attribute == 4 ? objectness[prediction] : 0.0f;
      mine[j] = j < at.count && (attribute == 4 || !assigned);  // the others are EntryLosses'
      whole = whole && mine[j];
      if (++attribute == attributes.divisor() && j + 1 < at.count) {
        attribute = 0;
        assigned = newest[++prediction] >= 0;
      }
    }
    T* to = dhead.pixel(at.pixel) + at.channel;
    if (whole) {
      store(to, out);
      return;
    }
    FROST_UNROLL
    for (int j = 0; j < width; ++j)
      if (mine[j]) to[j] = math::from_float<T>(out[j]);
  }
};

/// The sums of every level, each by 32 threads, in double; then one thread writes results and balances. Lower bound: reads
/// the blocks' sums once, one at a time: a thousand or so.
struct FinishLoss {
  static constexpr int kLanes = 32, kThreads = kLanes * 3 * kMostLevels, kPhases = 3;
  struct Shared {
    double part[kThreads], total[3 * kMostLevels];
  };
  struct Own {};
  LossPlan plan;

  template <int phase>
  FROST_HD void run(std::int64_t, int thread, Shared& shared, Own&) const {
    const int index = thread / kLanes / 3, what = thread / kLanes % 3, lane = thread % kLanes;
    if constexpr (phase == 0) {
      double sum = 0;
      if (index < plan.levels) {
        const LossLevel& l = plan.level[index];
        const int blocks = what == 1 ? l.objectness_blocks : l.entry_blocks;
        const float* sums = what == 1 ? plan.objectness_sums + l.first_objectness_block
                                      : plan.entry_sums + 2 * l.first_entry_block + (what == 2 ? 1 : 0);
        for (int b = lane; b < blocks; b += kLanes) sum += static_cast<double>(sums[what == 1 ? b : 2 * b]);
      }
      shared.part[thread] = sum;
    } else if constexpr (phase == 1) {
      if (lane > 0) return;
      double sum = 0;
      for (int b = 0; b < kLanes; ++b) sum += shared.part[thread + b];
      shared.total[thread / kLanes] = sum;
    } else if (thread == 0) {
      finish(shared.total);
    }
  }

 private:
  FROST_HD void finish(const double* total) const {
    double box = 0, obj = 0, cls = 0;
    for (int i = 0; i < plan.levels; ++i) {
      const auto cells = static_cast<double>(plan.level[i].predictions), entries = plan.entries(i);
      box += total[3 * i] / entries;
      obj += static_cast<double>(plan.balance[i]) * total[3 * i + 1] / cells;
      cls += total[3 * i + 2] / (entries * static_cast<double>(plan.classes));
      if (plan.autobalance)
        plan.balance[i] =
            static_cast<float>(static_cast<double>(plan.balance[i]) * 0.9999 + 0.0001 * cells / total[3 * i + 1]);
    }
    if (plan.autobalance) {
      const float base = plan.balance[plan.middle];
      for (int i = 0; i < plan.levels; ++i) plan.balance[i] /= base;
    }
    box *= static_cast<double>(plan.gains.box);
    obj *= static_cast<double>(plan.gains.obj);
    cls *= static_cast<double>(plan.gains.cls);
    double loss = (box + obj + cls) * plan.batch();
    if (plan.counters[plan.levels] > 0) loss = static_cast<double>(NAN);  // an impossible target
    plan.result[0] = static_cast<float>(loss);
    plan.result[1] = static_cast<float>(box);
    plan.result[2] = static_cast<float>(obj);
    plan.result[3] = static_cast<float>(cls);
  }
};

/// Checks the call and lays out the work; `bytes` is set to the workspace's size.
inline LossPlan plan_loss(const DetectLoss& a, std::size_t& bytes) {
  const auto levels = static_cast<int>(a.levels.size());
  check_detect_loss(a);
  check_levels("detect_loss", a.levels);
  LossPlan p{};
  p.levels = levels, p.middle = -1;
  p.classes = a.classes, p.capacity = a.target_capacity;
  p.gains = a.gains, p.autobalance = a.autobalance;
  p.targets = a.targets, p.grad_scale = a.grad_scale, p.balance = a.balance, p.result = a.result;
  for (int i = 0; i < levels; ++i) {
    const DetectLevel& from = a.levels[static_cast<std::size_t>(i)];
    const View d = a.dheads.empty() ? View{} : a.dheads[static_cast<std::size_t>(i)];
    LossLevel& l = p.level[i];
    static_cast<HeadLevel&>(l) = head_level("detect_loss", from);
    l.dhead = d.data, l.dhead_type = d.dtype, l.dhead_pitch = d.pitch;
    if (from.stride == 16 && p.middle < 0) p.middle = i;
    l.predictions = from.head.shape.pixels() * l.anchors, l.first_prediction = p.predictions;
    l.keys = math::kAssignGroups * std::int64_t{l.anchors} * a.target_capacity, l.first_key = p.keys;
    FROST_CHECK(fits_int32(l.keys), "detect_loss: room for ", a.target_capacity, " targets is too much");
    // Only as many partial sums as the last kernel can add up quickly; with fewer blocks the loops do more work each.
    l.entry_blocks = static_cast<int>(std::clamp<std::int64_t>((l.keys + 7) / 8, 1, 1024));
    l.objectness_blocks = static_cast<int>(std::clamp<std::int64_t>((l.predictions + 255) / 256, 1, 512));
    l.first_entry_block = p.entry_blocks, l.first_objectness_block = p.objectness_blocks;
    p.predictions += l.predictions, p.keys += l.keys;
    p.entry_blocks += l.entry_blocks, p.objectness_blocks += l.objectness_blocks;
  }
  FROST_CHECK(!a.autobalance || p.middle >= 0, "detect_loss: autobalance needs a level of stride 16");
  Cut cut(a.workspace);
  p.newest = cut.take<std::int32_t>(p.predictions);
  p.earlier = cut.take<std::int32_t>(p.keys);
  p.objectness = cut.take<float>(p.predictions);
  p.counters = cut.take<std::int32_t>(kMostLevels + 1);
  p.entry_sums = cut.take<float>(2 * p.entry_blocks);
  p.objectness_sums = cut.take<float>(p.objectness_blocks);
  bytes = cut.bytes();
  return p;
}

template <class Launcher>
void detect_loss(const Launcher& launch, const DetectLoss& a) {
  std::size_t bytes = 0;
  const LossPlan plan = plan_loss(a, bytes);
  FROST_CHECK(a.balance && a.result, "detect_loss: no balances, or nowhere to write the result");
  FROST_CHECK(a.targets || a.target_capacity == 0, "detect_loss: no targets, ", a.target_capacity, " rows expected");
  FROST_CHECK(a.workspace, "detect_loss: no workspace, ", bytes, " bytes expected");
  launch.items(plan.predictions / ClearPredictions::kWidth + plan.levels + 1, ClearPredictions{plan});
  launch.items(plan.keys, AssignTargets{plan});
  launch.blocks(plan.entry_blocks, EntryLosses{plan});
  launch.blocks(plan.objectness_blocks, Objectness{plan});
  for (int i = 0; i < plan.levels; ++i) {
    const LossLevel& l = plan.level[i];
    if (!l.dhead) continue;
    const View map = a.dheads[static_cast<std::size_t>(i)], d = Flat{map}(map);
    with_float(d.dtype, "detect_loss", [&]<class T>(T) {
      over_vectors<T>(launch, {d}, d.shape, [&](auto width, const Items& items) {
        return StreamGradient<T, width>{items,
                                        plane<T>(d),
                                        Divider(plan.attributes()),
                                        l.anchors,
                                        plan.newest + l.first_prediction,
                                        plan.objectness + l.first_prediction};
      });
    });
  }
  launch.blocks(1, FinishLoss{plan});
}

}  // namespace frost::cuda
