#pragma once
#include <compare>
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/view.h"

namespace frost {

struct ConvGeometry {
  int kernel_h = 1, kernel_w = 1;
  int stride_h = 1, stride_w = 1;
  int pad_h = 0, pad_w = 0;
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;
  auto operator<=>(const ConvGeometry&) const = default;

  /// The output's shape for input `x` and `out_channels` filters: floor((in + 2 pad - dilation (k - 1) - 1) / stride) + 1.
  Shape output(const Shape& x, std::int64_t out_channels) const {
    return {x.n, (x.h + 2 * pad_h - dilation_h * (kernel_h - 1) - 1) / stride_h + 1,
            (x.w + 2 * pad_w - dilation_w * (kernel_w - 1) - 1) / stride_w + 1, out_channels};
  }
  /// Is `x` with its padding as large as what the kernel covers?
  bool fits(const Shape& x) const {
    return x.h + 2 * pad_h > dilation_h * (kernel_h - 1) && x.w + 2 * pad_w > dilation_w * (kernel_w - 1);
  }
};

/// Filters, always f32 master values in OHWI order: (out channels, kernel_h, kernel_w, in channels / groups).
/// `version` names the *contents*: two calls with the same non-zero version see the same values, so a backend may keep its
/// own reordered or converted copy under that key. 0: contents unknown, nothing is kept.
struct Filters {
  const float* data = nullptr;
  std::uint64_t version = 0;
};

/// y = activation(conv(x, weight) + bias). x and y: f32, bf16 or f16 (y may be f32 where x is 16-bit); sums in f32.
struct ConvForward {
  ConvGeometry geometry;
  ConstView x;
  Filters weight;
  const float* bias = nullptr;  // (out channels) or null
  Activation activation;
  View y;  // overwritten
};

/// dx = transposed convolution of dy with the weight; overwritten.
struct ConvBackwardData {
  ConvGeometry geometry;
  ConstView dy;
  Filters weight;
  View dx;
};

/// dweight (OHWI, f32) and dbias (f32, or null) of a convolution. `accumulate`: added to, otherwise overwritten.
struct ConvBackwardWeight {
  ConvGeometry geometry;
  ConstView x, dy;
  float* dweight = nullptr;
  float* dbias = nullptr;
  bool accumulate = false;
};

/// y = x * weight + bias for rows: x (rows, in), weight (out, in), y (rows, out), all f32 and packed.
struct LinearForward {
  const float *x, *weight, *bias;  // bias may be null
  float* y;
  std::int64_t rows, in, out;
};
/// dx overwritten; dweight and dbias added to. Each may be null: not wanted.
struct LinearBackward {
  const float *x, *weight, *dy;
  float *dx, *dweight, *dbias;
  std::int64_t rows, in, out;
};

}  // namespace frost
