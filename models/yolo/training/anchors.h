#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "models/graph/detection_model.h"
#include "models/yolo/data/labels.h"

/// AutoAnchor: do the anchors fit the boxes, and which would fit better (docs/spec/train.md section 13).
namespace frost::yolo {

/// Width and height, of a box or an anchor, in pixels.
struct Size {
  float w = 0, h = 0;
  bool operator==(const Size&) const = default;
};

/// The sizes of all labels where the longer side of each image is `imgsz`. `stretch`, if given, draws a factor in
/// [0.9, 1.1) for each image.
std::vector<Size> label_sizes(const std::vector<LabeledImage>& images, int imgsz, Rng* stretch = nullptr);

/// How anchors fit boxes. The ratio of a box and an anchor is the smaller of their two sides' min / max: 1 where they are
/// equal, 0 where a side is 0. An anchor is past the limit (hyp.anchor_t) where the ratio is above 1 / limit.
struct AnchorFit {
  double best_possible_recall = 0;  // share of boxes with an anchor past the limit
  double anchors_per_target = 0;    // mean number of anchors past the limit
  double fitness = 0;               // mean over boxes of the best ratio, taken as 0 where it is not past the limit
  double mean_ratio = 0;            // over all pairs
  double mean_best = 0;             // over boxes
  double mean_past = 0;             // over the pairs past the limit
};
AnchorFit anchor_fit(const std::vector<Size>& anchors, const std::vector<Size>& boxes, double limit);
/// anchor_fit().fitness alone, several times faster.
double anchor_fitness(const std::vector<Size>& anchors, const std::vector<Size>& boxes, double limit);

/// k-means in units of the boxes' standard deviation (of the population, each axis; 1 where all are equal).
struct Clusters {
  std::vector<Size> centres;  // pixels
  double distance = 0;        // mean distance of a box to its centre, in units of the standard deviations
};
/// Lloyd's iteration from `start` until the mean distance falls by 1e-5 or less. A centre without boxes is dropped.
Clusters lloyd(const std::vector<Size>& boxes, const std::vector<Size>& start);
/// The best of 30 runs from `count` different boxes. Empty where there are fewer boxes than that.
Clusters kmeans(const std::vector<Size>& boxes, int count, Rng& rng);

/// The genetic search: in each generation one mutant of the best, kept if its fitness is higher.
std::vector<Size> evolve_anchors(std::vector<Size> anchors, const std::vector<Size>& boxes, double limit, Rng& rng,
                                 int generations = 1000);

/// Takes a line of the report, without its end.
using Say = std::function<void(const std::string&)>;

/// k-means, evolution and their report: `count` anchors for `boxes` (as label_sizes without stretch), sorted by area.
std::vector<Size> find_anchors(const std::vector<Size>& boxes, int count, int imgsz, double limit, Rng& rng, const Say& say);

/// Says how the head's anchors fit the labels; where too many boxes are out of reach (recall of 0.98 or less), looks for
/// better ones and gives them to the head if they reach more. The same seed gives the same anchors. True: replaced.
bool auto_anchor(Detect& head, const std::vector<LabeledImage>& images, int imgsz, double limit, std::uint64_t seed,
                 const Say& say);

}  // namespace frost::yolo
