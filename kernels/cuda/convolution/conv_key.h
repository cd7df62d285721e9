#pragma once
#include <compare>
#include <cstdint>
#include <ostream>
#include <string>

#include "kernels/conv.h"

/// A convolution as cuDNN sees it, without cuDNN's headers.
namespace frost::cuda {

enum class ConvPass : std::uint8_t { forward, backward_data, backward_weight };
const char* name_of(ConvPass);

/// One convolution as cuDNN sees it: packed tensors, padded channels. Everything that decides which engines can run it and
/// which is fastest; finished plans are looked up by it, in memory and on disk.
struct ConvKey {
  ConvPass pass = ConvPass::forward;
  ConvGeometry geometry;
  Shape x, y;
  DType dtype = DType::f32;  // of all tensors; sums are f32
  bool bias = false;         // forward: y = activation(conv + bias) in one kernel; the bias' type: bias_type()
  Activation activation = {};
  int alignment = 16;  // bytes, to which all operands are aligned
  bool tf32 = false;   // f32 may be rounded to TF32's 10 bits of mantissa
  bool deterministic = false;
  auto operator<=>(const ConvKey&) const = default;

  Shape filters() const {  // out channels, kernel rows, kernel columns, in channels of a group: OHWI
    return {y.c, geometry.kernel_h, geometry.kernel_w, x.c / geometry.groups};
  }
};
/// "forward f16 3x3/2 16x640x640x8 -> 16x320x320x16"; not every field.
std::ostream& operator<<(std::ostream&, const ConvKey&);
/// Every field, as one word: the name of a plan on disk.
std::string identifier(const ConvKey&);

/// The key of a call whose tensors have shapes x and y. Channels grow to multiples of 8 for the 16-bit types and of 4 for
/// TF32, the 16 bytes that tensor-core engines load at once: unpadded, a 255-channel head makes cuDNN copy 52 MB to its
/// workspace, and a 3-channel stem gets its slowest engines (measured by the heuristics' workspace, batch 16 at 640).
/// Depthwise filters grow by whole groups; other grouped convolutions stay as they are. Plain f32 gains nothing.
ConvKey conv_key(ConvPass pass, const ConvGeometry& geometry, const Shape& x, const Shape& y, DType dtype, bool tf32 = false,
                 bool deterministic = false);

/// The type in which the graph wants the bias: engines that come compiled take their own type with a linear or ReLU end;
/// the others are compiled at run time and take f32.
DType bias_type(const ConvKey&);

/// Can cuDNN apply it to the sums before they are written? Others are our own kernel's work.
bool fuses(const Activation&);

/// Multiply-adds count twice; bytes: each tensor moved once.
struct ConvCost {
  double flops, bytes;
};
ConvCost cost(const ConvKey&);

/// What a plan's execution is given; null where the graph has no such operand.
struct ConvPointers {
  void *x = nullptr, *y = nullptr, *filters = nullptr, *bias = nullptr;
};

}  // namespace frost::cuda
