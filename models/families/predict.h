#pragma once
#include <vector>

#include "engine/image/image.h"
#include "models/model.h"
#include "models/run/inference.h"

namespace frost {

/// Predicts one image after another: letterbox or crop, network, decoding, non-maximum suppression. What is expensive to
/// build, such as captured graphs, is kept between images. The caller owns the model, which must outlive this object. Its
/// weights may change between two images. One thread at a time.
class Predictor {
 public:
  explicit Predictor(Model& model, const PredictOptions& options = {});
  /// A detector: boxes in pixels of `image`, clipped to it, best first. A classifier: its classes with their probabilities,
  /// best first; their boxes are the whole image.
  std::vector<Detection> operator()(const Image& image);

  /// Of the last image: milliseconds of preprocessing, network and postprocessing, and the size of the network's input.
  struct Pass {
    double pre_ms = 0, inference_ms = 0, post_ms = 0;
    int height = 0, width = 0;
  };
  const Pass& last() const { return last_; }
  int imgsz() const { return options_.imgsz; }  // in use
  DType compute() const { return compute_; }

 private:
  Model& model_;
  PredictOptions options_;
  Device& device_;
  DType compute_;
  run::Inference network_;
  std::vector<std::uint8_t> rgb_;
  Pass last_;
};

}  // namespace frost
