#pragma once
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/view.h"

namespace frost {

/// y = x, converting the data type; either side may be a channel slice.
struct CopyView {
  ConstView x;
  View y;
};
/// y = a + b; y may be a or b.
struct AddForward {
  ConstView a, b;
  View y;
};
/// y = a * b; b has a's shape, or is (n, 1, 1, c): one factor for each channel.
struct MulForward {
  ConstView a, b;
  View y;
};
/// da = dy * b, db = dy * a (summed over the image where b is per channel). Overwritten; empty: not wanted.
struct MulBackward {
  ConstView a, b, dy;
  View da, db;
};

struct ActivationForward {
  Activation activation;
  ConstView x;
  View y;
};
struct ActivationBackward {
  Activation activation;
  ConstView x, dy;
  View dx;
};  // dx overwritten; may be dy

/// Zero border: y is x.shape grown by the four sides. Backward: x is the gradient of the large side (crop).
struct ZeroPad {
  ConstView x;
  View y;
  int left = 0, right = 0, top = 0, bottom = 0;
};

/// Pixels gathered into channels: y has 4c channels, blocks in (row, column) parity order (0,0) (1,0) (0,1) (1,1) (Focus).
struct SpaceToDepth {
  ConstView x;
  View y;
};
/// The inverse, which is also its gradient.
struct DepthToSpace {
  ConstView x;
  View y;
};

/// u8 pixels to activations: y = x / 255.
struct NormalizeImage {
  ConstView x;
  View y;
};

/// y = 0 where a random number is below p (in [0, 1)), else x / (1 - p). The numbers depend on (seed, position): element c
/// of pixel i has position i * channels + c, whatever the pitch. The same call on dy is the gradient: no mask is stored.
struct Dropout {
  float p = 0;
  std::uint64_t seed = 0;                    // of the layer
  const std::uint64_t* step_seed = nullptr;  // one value in the device's memory, new for each step; null: 0
  ConstView x;
  View y;  // overwritten; may be x itself
};

/// Softmax over channels; mean cross entropy of rows of logits with label smoothing e: targets (1 - e) onehot + e / classes.
struct SoftmaxForward {
  ConstView x;
  View y;
  bool log = false;
};
struct SoftmaxBackward {
  ConstView y, dy;
  View dx;
  bool log = false;
};
struct CrossEntropy {
  const float* logits;
  const std::int64_t* labels;
  std::int64_t rows, classes;
  float label_smoothing = 0;
  float* loss;                        // one value
  float* dlogits;                     // (rows, classes), overwritten with d loss / d logits; null: not wanted
  const float* grad_scale = nullptr;  // one value that multiplies dlogits; null: 1
};

}  // namespace frost
