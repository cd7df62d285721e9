#pragma once
#include <vector>

#include "engine/autograd/parameter.h"
#include "engine/autograd/tape.h"
#include "kernels/backend.h"

namespace frost {

/// What a BatchNorm whose parameters are all frozen does in training: `running`: normalises with its running statistics and
/// does not change them; `batch`: as YOLOv5 v7.0, batch statistics, running averages keep moving.
enum class FrozenBn { running, batch };

/// Multiply-adds of one forward pass, by kind, counted as the thop library counts them (docs/spec/model.md section 7).
struct Profile {
  double convolution = 0, norm = 0, resize = 0, linear = 0;  // exact up to 2^53, and never past the end
  struct ConvCall {  // one convolution, and which of its gradients backward will compute
    ConvGeometry geometry;
    Shape x;
    std::int64_t filters;
    DType out;
    bool backward_data, backward_weight, bias;
    Activation activation;  // in the same call: a fused block's
  };
  std::vector<ConvCall> calls;
};

/// How a forward pass runs. Without a tape nothing is recorded.
struct Context {
  Device& device;
  Tape* tape = nullptr;
  bool training = false;
  FrozenBn frozen_bn = FrozenBn::running;
  DType compute = DType::f32;  // type of activations and of the convolutions' operands
  Profile* profile = nullptr;  // counts operations where given
  Tensor seed{};               // of this pass's random choices (dropout): 64 bits on the device; empty: 0

  bool records(const Var& x) const { return tape && x.needs_grad(); }
  bool records(const Var& x, const Parameter& p) const { return tape && (x.needs_grad() || p.trainable); }
};

/// Where a result should be written: a slice of a concatenation's buffer, or anywhere.
struct Output {
  Tensor target;
  Tensor tensor(Context& context, const Shape& shape, DType dtype) const {
    FROST_CHECK(!target || target.shape() == shape, "a result of shape ", shape, " where ", target.shape(), " belongs");
    return target ? target : Tensor(context.device, shape, dtype);
  }
};

}  // namespace frost
