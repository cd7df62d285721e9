#include "models/yolo/training/anchors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <iterator>
#include <limits>

#include "engine/report/text.h"

namespace frost::yolo {
namespace {

// The denominator's lower limit makes 0 / 0 a 0; no pixel size is that small.
float side_ratio(float a, float b) { return std::min(a, b) / std::max(std::max(a, b), 1e-30f); }
float ratio(Size box, Size anchor) { return std::min(side_ratio(box.w, anchor.w), side_ratio(box.h, anchor.h)); }

Size population_std(const std::vector<Size>& boxes) {
  const double n = static_cast<double>(boxes.size());
  double w = 0, h = 0, ww = 0, hh = 0;
  for (const Size& b : boxes) w += b.w / n, h += b.h / n;
  for (const Size& b : boxes) ww += (b.w - w) * (b.w - w) / n, hh += (b.h - h) * (b.h - h) / n;
  const auto unit = [](double variance) { return variance > 0 ? static_cast<float>(std::sqrt(variance)) : 1.0f; };
  return {unit(ww), unit(hh)};
}

double area(Size s) { return static_cast<double>(s.w) * s.h; }
void sort_by_area(std::vector<Size>& sizes) {
  std::stable_sort(sizes.begin(), sizes.end(), [](Size a, Size b) { return area(a) < area(b); });
}

std::vector<Size> sizes_of(const std::vector<float>& pairs) {
  std::vector<Size> sizes;
  for (std::size_t i = 0; i + 1 < pairs.size(); i += 2) sizes.push_back({pairs[i], pairs[i + 1]});
  return sizes;
}

}  // namespace

std::vector<Size> label_sizes(const std::vector<LabeledImage>& images, int imgsz, Rng* stretch) {
  std::vector<Size> sizes;
  for (const LabeledImage& image : images) {
    const double factor = stretch ? stretch->uniform(0.9, 1.1) : 1.0;
    const double scale = factor * imgsz / std::max(image.width, image.height);
    for (const LabelRow& row : image.rows)
      sizes.push_back(
          {static_cast<float>(row.w * (image.width * scale)), static_cast<float>(row.h * (image.height * scale))});
  }
  return sizes;
}

AnchorFit anchor_fit(const std::vector<Size>& anchors, const std::vector<Size>& boxes, double limit) {
  const float least = static_cast<float>(1 / limit);
  AnchorFit fit;
  double within = 0;
  for (const Size& box : boxes) {
    float best = 0;
    for (const Size& anchor : anchors) {
      const float r = ratio(box, anchor);
      best = std::max(best, r);
      fit.mean_ratio += r;
      if (r > least) within += 1, fit.mean_past += r;
    }
    fit.mean_best += best;
    if (best > least) fit.best_possible_recall += 1, fit.fitness += best;
  }
  if (boxes.empty() || anchors.empty()) return {};
  const double n = static_cast<double>(boxes.size());
  fit.best_possible_recall /= n;
  fit.anchors_per_target = within / n;
  fit.fitness /= n;
  fit.mean_ratio /= n * static_cast<double>(anchors.size());
  fit.mean_best /= n;
  fit.mean_past /= std::max(within, 1.0);
  return fit;
}

double anchor_fitness(const std::vector<Size>& anchors, const std::vector<Size>& boxes, double limit) {
  if (boxes.empty()) return 0;
  const float least = static_cast<float>(1 / limit);
  std::array<float, 256> best;  // of a block of boxes: the inner loop then runs over neighbours, in vector code
  double sum = 0;
  for (std::size_t first = 0; first < boxes.size(); first += best.size()) {
    const std::size_t count = std::min(best.size(), boxes.size() - first);
    const Size* box = &boxes[first];
    best.fill(0);
    for (const Size anchor : anchors)
#pragma omp simd
      for (std::size_t i = 0; i < count; ++i) best[i] = std::max(best[i], ratio(box[i], anchor));
    for (std::size_t i = 0; i < count; ++i) sum += best[i] > least ? best[i] : 0;
  }
  return sum / static_cast<double>(boxes.size());
}

Clusters lloyd(const std::vector<Size>& boxes, const std::vector<Size>& start) {
  struct Centre {
    double w, h, sum_w, sum_h, members;
  };
  if (boxes.empty() || start.empty()) return {};
  const Size unit = population_std(boxes);
  std::vector<Centre> centres;
  for (const Size& s : start) centres.push_back({s.w / unit.w, s.h / unit.h, 0, 0, 0});
  double before = 0, distance = std::numeric_limits<double>::infinity();
  do {
    before = distance;
    distance = 0;
    for (Centre& c : centres) c.sum_w = c.sum_h = c.members = 0;
    for (const Size& box : boxes) {
      const double w = box.w / unit.w, h = box.h / unit.h;
      Centre* nearest = &centres[0];
      double least = std::numeric_limits<double>::infinity();
      for (Centre& c : centres) {
        const double d = (w - c.w) * (w - c.w) + (h - c.h) * (h - c.h);
        if (d < least) least = d, nearest = &c;
      }
      nearest->sum_w += w, nearest->sum_h += h, nearest->members += 1;
      distance += std::sqrt(least);
    }
    distance /= static_cast<double>(boxes.size());
    std::erase_if(centres, [](const Centre& c) { return c.members == 0; });
    for (Centre& c : centres) c.w = c.sum_w / c.members, c.h = c.sum_h / c.members;
  } while (before - distance > 1e-5);
  Clusters result{.centres = {}, .distance = distance};
  for (const Centre& c : centres)
    result.centres.push_back({static_cast<float>(c.w * unit.w), static_cast<float>(c.h * unit.h)});
  return result;
}

Clusters kmeans(const std::vector<Size>& boxes, int count, Rng& rng) {
  Clusters best{.centres = {}, .distance = std::numeric_limits<double>::infinity()};
  const std::size_t n = static_cast<std::size_t>(count);
  if (n > boxes.size()) return best;
  std::vector<Size> drawn = boxes;  // its first n are drawn anew for each run, without repeats
  for (int run = 0; run < 30; ++run) {
    for (std::size_t i = 0; i < n; ++i)
      std::swap(drawn[i], drawn[i + static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(drawn.size() - i)))]);
    Clusters clusters = lloyd(boxes, {drawn.begin(), drawn.begin() + count});
    if (clusters.distance < best.distance) best = std::move(clusters);
  }
  return best;
}

std::vector<Size> evolve_anchors(std::vector<Size> anchors, const std::vector<Size>& boxes, double limit, Rng& rng,
                                 int generations) {
  double fitness = anchor_fitness(anchors, boxes, limit);
  for (int generation = 0; generation < generations; ++generation) {
    std::vector<Size> mutant = anchors;
    for (bool mutated = false; !mutated;) {
      const double strength = rng.uniform();
      const auto factor = [&] {
        const double v = rng.uniform() < 0.9 ? std::clamp(strength * rng.normal() * 0.1 + 1, 0.3, 3.0) : 1.0;
        mutated = mutated || v != 1;
        return v;
      };
      for (std::size_t i = 0; i < anchors.size(); ++i) {
        mutant[i].w = static_cast<float>(std::max(anchors[i].w * factor(), 2.0));
        mutant[i].h = static_cast<float>(std::max(anchors[i].h * factor(), 2.0));
      }
    }
    const double mutant_fitness = anchor_fitness(mutant, boxes, limit);
    if (mutant_fitness > fitness) fitness = mutant_fitness, anchors = std::move(mutant);
  }
  return anchors;
}

std::vector<Size> find_anchors(const std::vector<Size>& boxes, int count, int imgsz, double limit, Rng& rng,
                               const Say& say) {
  const std::string prefix = bold_blue("AutoAnchor: ");
  const auto small = std::count_if(boxes.begin(), boxes.end(), [](Size s) { return s.w < 3 || s.h < 3; });
  if (small)
    say(fmt::format("{}WARNING ⚠️ Extremely small objects found: {} of {} labels are <3 pixels in size", prefix, small,
                    boxes.size()));
  std::vector<Size> visible;
  std::copy_if(boxes.begin(), boxes.end(), std::back_inserter(visible), [](Size s) { return s.w >= 2 || s.h >= 2; });

  say(fmt::format("{}Running kmeans for {} anchors on {} points...", prefix, count, visible.size()));
  const std::size_t n = static_cast<std::size_t>(count);
  std::vector<Size> anchors = kmeans(visible, count, rng).centres;
  if (anchors.size() < n) {
    say(prefix + "WARNING ⚠️ switching strategies from kmeans to random init");
    std::vector<float> sides(2 * n);
    for (float& side : sides) side = static_cast<float>(rng.uniform() * imgsz);
    std::sort(sides.begin(), sides.end());
    anchors = sizes_of(sides);
  }
  sort_by_area(anchors);
  anchors = evolve_anchors(std::move(anchors), visible, limit, rng);
  sort_by_area(anchors);
  say(fmt::format("{}Evolving anchors with Genetic Algorithm: fitness = {:.4f}", prefix,
                  anchor_fitness(anchors, visible, limit)));

  const AnchorFit fit = anchor_fit(anchors, boxes, limit);
  say(fmt::format("{}thr={:.2f}: {:.4f} best possible recall, {:.2f} anchors past thr", prefix, 1 / limit,
                  fit.best_possible_recall, fit.anchors_per_target));
  std::string list;
  for (const Size& a : anchors)
    list += fmt::format("{}{:.0f},{:.0f}", list.empty() ? "" : ", ", std::nearbyint(a.w), std::nearbyint(a.h));
  say(fmt::format("{}n={}, img_size={}, metric_all={:.3f}/{:.3f}-mean/best, past_thr={:.3f}-mean: {}", prefix, count, imgsz,
                  fit.mean_ratio, fit.mean_best, fit.mean_past, list));
  return anchors;
}

bool auto_anchor(Detect& head, const std::vector<LabeledImage>& images, int imgsz, double limit, std::uint64_t seed,
                 const Say& say) {
  const std::string prefix = bold_blue("AutoAnchor: ");
  Rng rng(seed);
  const std::vector<Size> stretched = label_sizes(images, imgsz, &rng), current = sizes_of(head.anchor_pixels());
  const AnchorFit fit = anchor_fit(current, stretched, limit);
  const std::string line = fmt::format("\n{}{:.2f} anchors/target, {:.3f} Best Possible Recall (BPR). ", prefix,
                                       fit.anchors_per_target, fit.best_possible_recall);
  if (fit.best_possible_recall > 0.98) {
    say(line + "Current anchors are a good fit to dataset ✅");
    return false;
  }
  say(line + "Anchors are a poor fit to dataset ⚠️, attempting to improve...");
  std::vector<Size> found = current;
  try {
    found = find_anchors(label_sizes(images, imgsz), static_cast<int>(current.size()), imgsz, limit, rng, say);
  } catch (const std::exception& e) {  // the run goes on with the anchors it has
    say(fmt::format("{}ERROR: {}", prefix, e.what()));
  }
  if (anchor_fit(found, stretched, limit).best_possible_recall <= fit.best_possible_recall) {
    say(prefix + "Done ⚠️ (original anchors better than new anchors, proceeding with original anchors)");
    return false;
  }
  std::vector<float> pixels;
  for (const Size& a : found) pixels.insert(pixels.end(), {a.w, a.h});
  if (head.set_anchors(std::move(pixels))) say(prefix + "Reversing anchor order");
  say(prefix + "Done ✅ (optional: update model *.yaml to use these anchors in the future)");
  return true;
}

}  // namespace frost::yolo
